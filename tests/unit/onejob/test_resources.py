"""A planned job reserves what a job over unrewritten data does."""

from pathlib import Path
from typing import Any

import pytest

from laclip_ray import cluster
from laclip_ray.config import Experiment, parse_experiment, with_overrides
from laclip_ray.errors import UserError
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
    assert planned_reservations(of.rewrite, of.train, of.stream, rewrites=True) == reservations(find_backlog(of))


def test_reading_tasks_with_labels_need_room_on_a_node_with_them(tmp_path: Path) -> None:
    of = with_overrides(experiment(tmp_path), {"stream.label_selector": {"pool": "cpus"}, "train.gpus_per_worker": 0})
    (only,) = planned_reservations(of.rewrite, of.train, of.stream, rewrites=False)
    node = {"Resources": {"CPU": 8.0}, "Labels": {"pool": "gpus"}}
    cluster.check_nodes(only, [node, {**node, "Labels": {"pool": "cpus"}}])
    with pytest.raises(UserError, match=r"room for 1 reading tasks, .* 0 nodes with label pool: cpus \(of 1\)"):
        cluster.check_nodes(only, [node])


def test_a_job_that_rewrites_nothing_only_trains(tmp_path: Path) -> None:
    of = experiment(tmp_path)
    (only,) = planned_reservations(of.rewrite, of.train, of.stream, rewrites=False)
    assert (only.verb, [group.name for group in only.groups]) == ("train", ["workers"])
