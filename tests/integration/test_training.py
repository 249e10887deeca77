"""Training on a real Ray: a run that died resumes at another world size, and its results are those of a whole run.

One run serves all tests. Its only worker dies in the second epoch; two gloo workers end it.
"""

import json
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from laclip_ray import storage
from laclip_ray.config import Experiment, with_overrides
from laclip_ray.data.schedule import Position
from laclip_ray.data.text_choice import ShownText
from laclip_ray.errors import IncompleteError, UserError
from laclip_ray.evaluation.during import evaluation_during
from laclip_ray.rewriting.running.pipeline import run_rewriting
from laclip_ray.training import trainer
from laclip_ray.training.checkpoint import newest_checkpoint, shown_counts_from_json
from laclip_ray.training.metrics import read_metrics
from laclip_ray.training.paths import RunPaths
from laclip_ray.training.run import run_training
from tests.integration.conftest import build_experiment, good_samples, jpeg, write_shard
from tests.integration.dying_worker import deaths, train_and_die
from tests.integration.procedures import export_differences
from tests.integration.scripted_engine import EMPTY, ScriptedEngine

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

METRIC = "retrieval/own/image_to_text_r1"
STEPS = 8
"""2 epochs of 64 usable samples are 8 global batches of 16, without a rest."""


@dataclass(frozen=True)
class Resumed:
    """A finished run, and what its first attempt left."""

    experiment: Experiment
    summary: dict[str, Any]
    message: str
    """Of the first attempt."""
    died: set[int]
    """The ranks of the workers that died."""
    step_before: int
    """Of the checkpoint that the second attempt resumed from."""

    @property
    def paths(self) -> RunPaths:
        """Its files."""
        return RunPaths(self.experiment.train_output)

    @cached_property
    def checkpoint(self) -> str:
        """The last one."""
        newest = newest_checkpoint(self.experiment.train_output)
        assert newest is not None
        return newest

    @property
    def state(self) -> dict[str, Any]:
        """Of the last checkpoint."""
        return dict(storage.read_json(f"{self.checkpoint}/state.json"))


@pytest.fixture(scope="module")
def run(local_ray: Any, tmp_path_factory: pytest.TempPathFactory) -> Resumed:
    """Two epochs over 66 samples in 3 shards. Two samples are broken, and a quarter has no rewrite."""
    directory = tmp_path_factory.mktemp("training")
    for number in range(3):
        samples = good_samples(number * 22, 22)
        for row, (_, members) in enumerate(samples):
            if row % 4 == 0:
                members["txt"] = f"{EMPTY} {number} {row}".encode()
        if number == 1:
            samples[5][1]["jpg"] = b"not an image"
            samples[6][1]["jpg"] = jpeg(0)[:200]
        write_shard(directory / "data" / f"{number}.tar", samples)
    experiment = build_experiment(
        directory,
        text={"mode": "multi", "p": 0.5},
        train={
            "workers": 1,
            "micro_batch_size": 3,
            "max_failures": 0,
            "log_every_steps": 1,
            "export_every_epochs": 1,
            "checkpoint": {"every_steps": 3, "keep_best": METRIC},
        },
        evaluate={
            "retrieval": [{"name": "own", "data": {"path": str(directory / "data")}}],
            "during": {},
            "max_skipped": 0.1,
        },
    )
    run_rewriting(experiment, ScriptedEngine)
    # The worker dies before step 5 (from 0); the newest checkpoint is of step 3.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "train_worker", train_and_die)
        with pytest.raises(IncompleteError) as incomplete:
            run_training(experiment)
    before = newest_checkpoint(experiment.train_output)
    assert before is not None
    step = storage.read_json(f"{before}/state.json")["step"]
    with evaluation_during(with_overrides(experiment, {"train.workers": {"min": 1, "max": 2}})) as larger:
        summary = run_training(larger).summary
    return Resumed(larger, summary, str(incomplete.value), deaths(experiment.train_output), step)


def test_a_run_whose_worker_died_says_that_the_same_command_resumes_it(run: Resumed) -> None:
    assert run.died == {0}
    assert run.step_before == 3
    assert run.message.startswith("training ended early (")
    assert "the newest checkpoint is " in run.message
    assert "the same command continues" in run.message
    lines = read_metrics(run.experiment.train_output)
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert {line["batch_size"] for line in lines} == {16}


def test_each_sample_is_consumed_once_an_epoch_and_skipped_rows_are_counted(run: Resumed) -> None:
    summary = run.summary
    assert (summary["steps"], summary["samples"], summary["not_trained_on"]) == (STEPS, 128, 4)
    assert summary["skipped"] == {"image_unreadable": 4}
    assert set(summary["skipped_names"]["image_unreadable"]) == {"s00027", "s00028"}
    position = Position.from_json(run.state["position"])
    assert position.done_below == 6
    assert not position.rows
    by_epoch = shown_counts_from_json(run.state["sources"])
    # A global batch may hold the end of one epoch and the start of the next.
    assert {epoch: sum(counts.values()) for epoch, counts in by_epoch.items()} == {0: 64, 1: 64}


def test_shown_texts_are_counted_and_the_summary_has_the_lineage(run: Resumed) -> None:
    summary, state = run.summary, run.state
    shown = sum(map(Counter, shown_counts_from_json(state["sources"]).values()), Counter[int]())
    assert shown.total() == 128
    assert summary["p_effective"] == shown[ShownText.REWRITE] / 128
    assert state["text"] == {name: summary[name] for name in ("p", "p_effective", "fallbacks", "unscored")}
    assert summary["fallbacks"]["no_accepted_rewrite"] == shown[ShownText.NO_ACCEPTED_REWRITE] > 0
    assert shown[ShownText.REWRITE] > 0
    assert shown[ShownText.NOT_REWRITTEN] == 0
    rewrite_sets = summary["lineage"]["rewrite_sets"]
    assert [rewrite_set["committed_shards"] for rewrite_set in rewrite_sets] == [3, 3]
    assert len({rewrite_set["fingerprint"] for rewrite_set in rewrite_sets}) == 2
    assert list(Path(run.paths.tensorboard).glob("events*"))
    assert json.loads(Path(run.paths.summary).read_text()) == json.loads(json.dumps(summary))


def test_epochs_are_evaluated_beside_training_and_the_best_one_is_named(run: Resumed) -> None:
    lines = [json.loads(line) for line in Path(run.paths.evaluations).read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert json.loads(Path(run.paths.best).read_text())["value"] == max(line[METRIC] for line in lines)


def test_the_same_command_leaves_a_finished_run_as_it_is_and_another_run_is_refused(run: Resumed) -> None:
    written_ns = Path(run.paths.metrics).stat().st_mtime_ns
    assert json.loads(json.dumps(run_training(run.experiment).summary)) == json.loads(json.dumps(run.summary))
    assert Path(run.paths.metrics).stat().st_mtime_ns == written_ns
    with pytest.raises(UserError, match=r"holds another training run \(text\.p differ\)"):
        run_training(with_overrides(run.experiment, {"text.p": 0.7}))


def test_a_program_that_only_knows_open_clip_gives_the_same_features_and_transforms(
    run: Resumed, tmp_path: Path
) -> None:
    differences = export_differences(run.experiment, run.checkpoint, run.paths.export, tmp_path)
    assert max(differences.values()) <= 1e-5, differences
