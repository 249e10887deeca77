"""Training on a real Ray, with two gloo workers."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from laclip_ray import storage
from laclip_ray.config import Experiment, with_overrides
from laclip_ray.data.schedule import Position
from laclip_ray.data.text_choice import ShownText
from laclip_ray.errors import IncompleteError, UserError
from laclip_ray.rewriting.running.pipeline import run_rewriting
from laclip_ray.training.checkpoint import newest_checkpoint, shown_counts_from_json
from laclip_ray.training.metrics import read_metrics
from laclip_ray.training.run import run_training
from tests.integration.conftest import good_samples, jpeg, write_shard
from tests.integration.procedures import export_differences
from tests.integration.scripted_engine import EMPTY, ScriptedEngine

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

MakeExperiment = Callable[..., Experiment]


def metrics_of(experiment: Experiment) -> list[dict[str, Any]]:
    return read_metrics(experiment.train_output)


@pytest.fixture
def trained(tmp_path: Path, make_experiment: MakeExperiment) -> Experiment:
    """Two epochs over 66 samples in 3 shards. Two samples are broken, and a quarter has no rewrite."""
    for number in range(3):
        samples = good_samples(number * 22, 22)
        for row, (_, members) in enumerate(samples):
            if row % 4 == 0:
                members["txt"] = f"{EMPTY} {number} {row}".encode()
        if number == 1:
            samples[5][1]["jpg"] = b"not an image"
            samples[6][1]["jpg"] = jpeg(0)[:200]
        write_shard(tmp_path / "data" / f"{number}.tar", samples)
    experiment = make_experiment(text={"p": 0.5})
    run_rewriting(experiment, ScriptedEngine)
    run_training(experiment)
    return experiment


def test_a_run_consumes_each_sample_once_an_epoch_and_counts_texts_and_skipped_rows(trained: Experiment) -> None:
    summary = storage.read_json(storage.join(trained.train_output, "summary.json"))
    # 2 epochs of 64 usable samples are 8 global batches of 16, without a rest.
    assert (summary["steps"], summary["samples"], summary["not_trained_on"]) == (8, 128, 4)
    assert summary["skipped"] == {"image_unreadable": 4}
    assert set(summary["skipped_names"]["image_unreadable"]) == {"s00027", "s00028"}
    checkpoint = newest_checkpoint(trained.train_output)
    assert checkpoint is not None
    state = storage.read_json(storage.join(checkpoint, "state.json"))
    position = Position.from_json(state["position"])
    assert position.done_below == 6
    assert not position.rows
    by_epoch = shown_counts_from_json(state["sources"])
    # A global batch may hold the end of one epoch and the start of the next.
    assert {epoch: sum(counts.values()) for epoch, counts in by_epoch.items()} == {0: 64, 1: 64}
    shown = sum(map(Counter, by_epoch.values()), Counter[int]())
    assert shown.total() == 128
    assert summary["p_effective"] == shown[ShownText.REWRITE] / 128
    assert state["text"] == {name: summary[name] for name in ("p", "p_effective", "fallbacks", "unscored")}
    assert summary["fallbacks"]["no_accepted_rewrite"] == shown[ShownText.NO_ACCEPTED_REWRITE] > 0
    assert shown[ShownText.REWRITE] > 0
    assert shown[ShownText.NOT_REWRITTEN] == 0
    lineage = summary["lineage"]
    assert [rewrite_set["committed_shards"] for rewrite_set in lineage["rewrite_sets"]] == [3, 3]
    assert len({rewrite_set["fingerprint"] for rewrite_set in lineage["rewrite_sets"]}) == 2
    steps = [row["step"] for row in metrics_of(trained)]
    assert steps == [2, 4, 6, 8]
    assert list(Path(trained.train_output, "tensorboard").glob("events*"))

    # The same command leaves a finished run as it is, and another run is refused.
    written_ns = Path(trained.train_output, "metrics.jsonl").stat().st_mtime_ns
    assert run_training(trained).summary == summary
    assert Path(trained.train_output, "metrics.jsonl").stat().st_mtime_ns == written_ns
    with pytest.raises(UserError, match=r"holds another training run \(text\.p differ\)"):
        run_training(with_overrides(trained, {"text.p": 0.7}))

    # A program that only knows open_clip gives the same features and transforms.
    export = storage.join(trained.train_output, "export")
    differences = export_differences(trained, checkpoint, export, Path(trained.output))
    assert max(differences.values()) <= 1e-5, differences


def test_a_killed_run_with_all_texts_of_each_image_resumes_at_another_world_size(
    tmp_path: Path, make_experiment: MakeExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        samples = good_samples(number * 20, 20)
        samples[0][1]["txt"] = f"{EMPTY} {number}".encode()
        write_shard(tmp_path / "data" / f"{number}.tar", samples)
    experiment = make_experiment(
        text={"mode": "multi", "p": "uniform"},
        train={
            "workers": {"min": 1, "max": 2},
            "micro_batch_size": 3,
            "max_failures": 0,
            "log_every_steps": 1,
            "checkpoint": {"every_steps": 3},
        },
    )
    run_rewriting(experiment, ScriptedEngine)
    # All workers that fit, two, die before step 5 (from 0); the newest checkpoint is of step 3.
    from laclip_ray.training import trainer
    from tests.integration.dying_worker import deaths, train_and_die

    monkeypatch.setattr(trainer, "train_worker", train_and_die)
    with pytest.raises(IncompleteError, match="the same command continues"):
        run_training(experiment)
    assert deaths(experiment.train_output) == {0, 1}
    newest = newest_checkpoint(experiment.train_output)
    assert newest is not None
    assert storage.read_json(f"{newest}/state.json")["step"] == 3
    monkeypatch.undo()
    summary = run_training(with_overrides(experiment, {"train.workers": 1})).summary
    assert (summary["steps"], summary["samples"], summary["not_trained_on"]) == (10, 160, 0)
    assert summary["p"] == pytest.approx(2 / 3)  # two sets with a rewrite each
    assert 0 < summary["p_effective"] < 1
    final = newest_checkpoint(experiment.train_output)
    assert final is not None
    position = Position.from_json(storage.read_json(f"{final}/state.json")["position"])
    assert position.done_below == 8
    rows = metrics_of(experiment)
    assert [row["step"] for row in rows] == list(range(1, 11))
    assert {row["batch_size"] for row in rows} == {16}
