"""The reading task: which shard a ticket stands for, and how many rewrites an edited shard gets."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from laclip_ray import storage
from laclip_ray.config import DataConfig, Experiment
from laclip_ray.data.records import Shard
from laclip_ray.data.shards import list_shards, read_samples
from laclip_ray.rewriting.draws import judge_draws, merge_draws
from laclip_ray.rewriting.running import stages
from laclip_ray.rewriting.running.stages import CommitShard, ReadShard, ShardQueue, shard_row
from laclip_ray.rewriting.storing import store
from laclip_ray.rewriting.storing.attempts import AttemptLog, Piece, attempts_url, piece_url, write_attempts
from laclip_ray.rewriting.storing.statistics import Statistics
from laclip_ray.rewriting.storing.store import RewriteSet
from laclip_ray.rewriting.tables import (
    STREAM_SCHEMA,
    Origin,
    WorkUnit,
    made_in_pieces,
    origin_of,
    table_from_bytes,
    table_to_bytes,
)
from tests.cases import case
from tests.unit.conftest import write_tar
from tests.unit.rewriting.rounds import experiment_of, gate_of, run_round, samples_of, slots_to_draw


def write_shard(path: Path, captions: Mapping[str, str]) -> Shard:
    write_tar(path, [(f"{name}.txt", caption.encode()) for name, caption in captions.items()])
    (shard,) = list_shards(DataConfig(path=str(path.parent)))
    return shard


def reader(experiment: Experiment, rewrite_set: RewriteSet, queue: ShardQueue | None = None) -> ReadShard:
    gates = {"cleaned": lambda: gate_of(experiment)}
    return ReadShard(experiment.data, experiment.rewrite, experiment.seed, {"cleaned": rewrite_set}, gates, queue=queue)


def read_unit(shard: Shard, experiment: Experiment, rewrite_set: RewriteSet, unit: WorkUnit) -> Mapping[str, Any]:
    """The stream row that the reading task makes of a unit."""
    item = {name: [value] for name, value in shard_row(shard, [unit]).items()}
    (table,) = reader(experiment, rewrite_set)(pa.table(item))
    (row,) = table.to_pylist()
    assert isinstance(row, dict)
    return row


class LastFirst:
    """A queue that gives the last shard for the first ticket."""

    def offer(self, items: Mapping[str, Mapping[str, str]]) -> None:
        self.items = list(items.values())[::-1]

    def take(self, ticket: int) -> Mapping[str, str]:
        return self.items[ticket]

    def give_back(self, shard: str, item: Mapping[str, str]) -> None:
        raise AssertionError("no engine is lost here")


def test_the_queue_decides_which_shard_a_ticket_stands_for(tmp_path: Path) -> None:
    queue, units = LastFirst(), []
    items: dict[str, dict[str, str]] = {}
    for number in range(2):
        shard = write_shard(tmp_path / str(number) / f"{number}.tar", {f"s{number}": "a red dog"})
        units.append(WorkUnit("cleaned", shard.name, 0))
        items[shard.name] = shard_row(shard, units[-1:])
    queue.offer(items)
    task = reader(experiment_of(), RewriteSet(str(tmp_path / "set"), "gate"), queue)
    (table,) = task(pa.table({"id": [0]}))
    (row,) = table.to_pylist()
    assert WorkUnit.from_json(row["unit"]) == units[1]


@pytest.mark.parametrize("is_judged", [True, False])
@pytest.mark.parametrize("then", [1, 3, 4])
def test_an_edited_shard_keeps_its_largest_number_of_rewrites(tmp_path: Path, then: int, is_judged: bool) -> None:
    rewrite_set = RewriteSet(str(tmp_path / "set"), "gate")
    first, second = experiment_of(rewrites_per_set=3), experiment_of(rewrites_per_set=then)
    shard = write_shard(tmp_path / "data" / "0.tar", {"a": "a red dog", "b": "two cats on a sofa", "c": " "})
    before = run_round(samples_of([*read_samples(shard, first.data, with_images=False)], first), first, Random(0))
    origin = Origin(shard.file_identity, "inputs", 3)
    store.write_draws(rewrite_set, shard.name, 0, before.draws, origin)
    if is_judged:
        store.commit_verdicts(rewrite_set, shard.name, 0, before.draws, before.reasons, origin)

    edited = write_shard(tmp_path / "data" / "0.tar", {"a": "a red dog", "b": "a blue house", "c": " "})
    row = read_unit(edited, second, rewrite_set, WorkUnit("cleaned", "0.tar", 1, previous=0))
    most = max(3, then)
    added = [*range(3, most)]
    assert origin_of(row).rewrites_per_set == most
    table = table_from_bytes(row["samples"])
    assert slots_to_draw(table) == [added, [*range(most)], added]

    again = run_round(table, second, Random(1))
    merged = merge_draws(table, before.draws, again.draws)
    counts = Statistics.of(merged, judge_draws(merged, gate_of(second)))
    assert counts.accepted + counts.unfilled.total() == 3 * most
    assert counts.unfilled["caption_empty"] == most


def test_an_unreadable_shard_is_a_failure_of_each_of_its_units(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "0.tar", {"a": "a red dog"})
    (tmp_path / "0.tar").unlink()
    units = [WorkUnit("cleaned", shard.name, 0), WorkUnit("crowd", shard.name, 0)]
    item = {name: [value] for name, value in shard_row(shard, units).items()}
    rows = [
        row for table in reader(experiment_of(), RewriteSet("set", "gate"))(pa.table(item)) for row in table.to_pylist()
    ]
    assert [WorkUnit.from_json(row["unit"]) for row in rows] == units
    assert all(row["failure"].startswith("cannot be read: ") for row in rows)


def failure_of(shard: Shard) -> str:
    row = read_unit(shard, experiment_of(), RewriteSet("set", "gate"), WorkUnit("cleaned", shard.name, 0))
    failure = row["failure"]
    assert isinstance(failure, str)
    return failure


def raise_from(cause: Exception) -> None:
    """Raise an error that says less than its cause."""
    raise ValueError("reading failed") from cause


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        pytest.param(
            error,
            failure,
            marks=case("Reading data", given, "that shard fails, with the innermost cause", exit_code=3),
        )
        for given, error, failure in (
            ("a shard that is read with a MemoryError", MemoryError(), "MemoryError"),
            ("a shard that is read with a RecursionError", RecursionError("too deep"), "RecursionError: too deep"),
            ("a shard whose error has a cause", OSError("torn page"), "OSError: torn page"),
            ("a shard whose error names control characters", OSError("a\x1b[2Jb\nc"), "OSError: a\\x1b[2Jb c"),
        )
    ],
)
def test_the_failure_of_a_shard_is_its_innermost_cause_in_a_line(
    error: Exception, failure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = write_shard(tmp_path / "0.tar", {"a": "a red dog"})
    monkeypatch.setattr(stages, "read_samples", lambda *_, **__: raise_from(error))
    assert failure_of(shard) == f"cannot be read: {failure}"


@case(
    "Reading data",
    "a shard that kills each process that reads it (out of memory, a crash in native code)",
    f"after {stages.MAX_STARTS} processes that shard fails; the others are rewritten",
    exit_code=3,
)
def test_a_shard_that_killed_too_many_processes_is_read_by_no_further_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray._private.worker import global_worker

    shard = write_shard(tmp_path / "0.tar", {"a": "a red dog"})
    monkeypatch.setattr(type(global_worker), "connected", True)
    for deaths in range(stages.MAX_STARTS + 1):
        core = SimpleNamespace(get_current_task_attempt_number=lambda deaths=deaths: deaths)
        monkeypatch.setattr(global_worker, "core_worker", core, raising=False)
        row = read_unit(shard, experiment_of(), RewriteSet("set", "gate"), WorkUnit("cleaned", shard.name, 0))
        batch = pa.Table.from_pylist([row], schema=STREAM_SCHEMA)
        (report,) = CommitShard({}, {}, 0.0)(batch).to_pylist()
        if deaths < stages.MAX_STARTS:
            assert row["failure"] is None
            assert "killed" not in report["failure"]
        else:
            killed = f"its process was killed {deaths} times, perhaps for lack of memory"
            assert row["failure"] == f"cannot be read: {killed}"
            assert report["failure"] == row["failure"]


def test_a_report_counts_slots_without_a_rewrite_by_reason(tmp_path: Path) -> None:
    experiment = experiment_of(rewrites_per_set=2, redraws=0)
    shard = write_shard(tmp_path / "data" / "0.tar", {"a": "a red dog", "b": " "})
    rewrite_set = RewriteSet(str(tmp_path / "set"), "gate")
    row = dict(read_unit(shard, experiment, rewrite_set, WorkUnit("cleaned", shard.name, 0)))
    row |= {"made": table_to_bytes(run_round(table_from_bytes(row["samples"]), experiment, Random(0)).made)}
    (report,) = CommitShard({"cleaned": rewrite_set}, {}, 0.0)(
        pa.Table.from_pylist([row], schema=STREAM_SCHEMA)
    ).to_pylist()
    unfilled = json.loads(report["unfilled"])
    assert report["failure"] is None
    assert unfilled["caption_empty"] == 2
    assert report["accepted"] + sum(unfilled.values()) == 4


def committed_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draws_id: str | None) -> tuple[Any, pa.Table]:
    """The report of a commit beside another writer, and what is stored; no id: the other writer is this commit."""
    experiment = experiment_of()
    shard = write_shard(tmp_path / "data" / "0.tar", {"a": "a red dog", "b": "two cats on a sofa"})
    rewrite_set = RewriteSet(str(tmp_path / "set"), "gate")
    unit = WorkUnit("cleaned", shard.name, 0)
    row = dict(read_unit(shard, experiment, rewrite_set, unit))
    rounds = [run_round(table_from_bytes(row["samples"]), experiment, Random(seed)) for seed in (1, 2)]
    row |= {"made": table_to_bytes(rounds[0].made)}
    gates: dict[str, Any] = {"cleaned": lambda: gate_of(experiment)}
    create_draws = store.create_draws

    def write_first(target: RewriteSet, name: str, revision: int, draws: pa.Table, origin: Origin) -> bool:
        if draws_id is None:
            create_draws(target, name, revision, draws, origin)  # the store's answer is lost
        else:
            store.write_draws(target, name, revision, rounds[1].draws, replace(origin, draws_id=draws_id))
        return create_draws(target, name, revision, draws, origin)

    monkeypatch.setattr(store, "create_draws", write_first)
    batch = pa.Table.from_pylist([row], schema=STREAM_SCHEMA)
    (report,) = CommitShard({"cleaned": rewrite_set}, gates, 0.0)(batch).to_pylist()
    expected = rounds[0 if draws_id is None else 1].draws
    assert rewrite_set.read_draws(shard.name, 0).column("text") == expected.column("text")
    return report, rewrite_set.read(shard.name, 0)


@pytest.mark.parametrize("draws_id", [None, "another"])
def test_draws_that_another_writer_created_first_are_judged_and_never_replaced(
    draws_id: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report, stored = committed_beside(tmp_path, monkeypatch, draws_id)
    assert report["failure"] is None
    assert report["accepted"] == stored.column("reason").null_count


def test_a_commit_removes_the_attempts_and_pieces_of_a_shard_that_was_drawn_in_pieces(tmp_path: Path) -> None:
    experiment = experiment_of()
    shard = write_shard(tmp_path / "data" / "0.tar", {"a": "a red dog", "b": "two cats on a sofa"})
    rewrite_set = RewriteSet(str(tmp_path / "set"), "gate")
    row = dict(read_unit(shard, experiment, rewrite_set, WorkUnit("cleaned", shard.name, 0)))
    made = run_round(table_from_bytes(row["samples"]), experiment, Random(0)).made
    log = AttemptLog("work", (Piece(0, 1), Piece(1, 2)))
    write_attempts(attempts_url(rewrite_set.location, shard.name), log)
    for piece in log.pieces:
        storage.write_bytes(piece_url(rewrite_set.location, shard.name, log, piece), b"kept")
    row |= {"made": table_to_bytes(made_in_pieces([made]))}
    batch = pa.Table.from_pylist([row], schema=STREAM_SCHEMA)
    (report,) = CommitShard({"cleaned": rewrite_set}, {}, 0.0)(batch).to_pylist()
    assert report["failure"] is None
    assert storage.list_files(storage.join(rewrite_set.location, "attempts")) == []
