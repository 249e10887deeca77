"""A planned job reserves what a job over unrewritten data does."""

from pathlib import Path
from typing import Any

import pytest

from laclip_ray.config import Experiment, parse_experiment
from laclip_ray.onejob.resources import planned_reservations, reservations
from laclip_ray.rewriting.running.backlog import find_backlog
from tests.unit.conftest import picture, write_tar


def experiment(directory: Path, **rewrite: Any) -> Experiment:
    write_tar(directory / "data" / "0.tar", [("a.jpg", picture("JPEG")), ("a.txt", b"a red cup")])
    return parse_experiment(
        {
            "name": "planned",
            "output": str(directory / "out"),
            "data": {"path": str(directory / "data")},
            "rewrite": {"model": "demo-rewriter", "engine": {"actors": {"min": 2, "max": 3}}, **rewrite},
            "train": {"batch_size": 8, "workers": {"min": 1, "max": 2}},
        }
    )


@pytest.mark.parametrize("delivery", ["ahead", "inline", "follow"])
def test_a_plan_reserves_what_a_job_without_any_rewrite_does(tmp_path: Path, delivery: str) -> None:
    of = experiment(tmp_path, delivery=delivery)
    assert planned_reservations(of.rewrite, of.train, rewrites=True) == reservations(find_backlog(of))


def test_a_job_that_rewrites_nothing_only_trains(tmp_path: Path) -> None:
    of = experiment(tmp_path)
    (only,) = planned_reservations(of.rewrite, of.train, rewrites=False)
    assert (only.verb, [group.name for group in only.groups]) == ("train", ["workers"])
