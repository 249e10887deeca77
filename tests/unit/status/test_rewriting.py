"""The state of rewriting is told from listings and records, without opening a shard."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from laclip_ray import storage
from laclip_ray.config import parse_experiment
from laclip_ray.rewriting.storing.progress_file import PROGRESS_FILE
from laclip_ray.rewriting.transfer.import_texts import import_rewrites
from laclip_ray.status.damage import Damage
from laclip_ray.status.rewriting import RewritingStatus, rewriting_status
from tests.unit.status.runs import SHARDS, commit, leave_lease, write_progress, write_summary


@pytest.fixture
def location(tmp_path: Path) -> str:
    return str(tmp_path / "rewrites")


def status_of(location: str) -> RewritingStatus:
    """The status, of an output without damage."""
    damage = Damage()
    status = rewriting_status(location, damage)
    assert damage.found == []
    return status


def test_nothing_there_was_never_started(location: str) -> None:
    assert status_of(location).state == "never started"
    Path(location).mkdir()
    assert status_of(location).state == "never started"


def test_a_complete_run_is_finished(location: str) -> None:
    commit(location, "cleaned", SHARDS)
    write_summary(location, SHARDS, {"cleaned": 900})
    status = status_of(location)
    assert (status.state, status.units_done, status.units, status.failed) == ("finished", SHARDS, SHARDS, 0)
    assert status.sets[0].accepted_share == pytest.approx(0.9)


def test_a_run_with_work_left_is_incomplete_and_names_it(location: str) -> None:
    commit(location, "cleaned", 8)
    write_summary(location, 8, {"cleaned": 900})
    status = status_of(location)
    assert (status.state, status.units_done, status.units, status.failed) == ("incomplete", 8, SHARDS, 2)
    assert status.failures["cleaned/00009.tar"] == "cannot be read: cut"


def test_a_run_that_left_its_progress_was_interrupted(location: str) -> None:
    commit(location, "cleaned", 5)
    write_summary(location, 3, {"cleaned": 300})  # of an earlier run
    write_progress(location, 400, {"cleaned/00001.tar": "cannot be read: cut"})
    status = status_of(location)
    assert (status.state, status.units_done, status.failed) == ("interrupted", 5, 1)
    assert status.sets[0].accepted_share == pytest.approx(0.8)
    assert status.left_s is None


def test_a_running_run_has_a_rate_and_the_time_left(location: str) -> None:
    commit(location, "cleaned", 4, newest_age_s=30, every_s=60)
    write_progress(location, 400)
    leave_lease(location, since="2001-01-01 00:00:00 UTC")
    status = status_of(location)
    assert status.state == "running"
    assert status.newest_commit_age_s == pytest.approx(30, abs=5)
    per_hour = 3 * 3600 / (3 * 60 + 30)
    assert status.shards_per_hour == pytest.approx(per_hour, rel=0.05)
    assert status.left_s == pytest.approx((SHARDS - 4) / per_hour * 3600, rel=0.05)


def test_commits_of_an_earlier_run_make_no_rate(location: str) -> None:
    commit(location, "cleaned", 4, newest_age_s=3600)
    write_progress(location, 400)
    leave_lease(location)
    status = status_of(location)
    assert (status.state, status.shards_per_hour, status.left_s) == ("running", None, None)


def test_a_run_that_has_just_begun_does_not_show_the_failures_of_the_last_one(location: str) -> None:
    commit(location, "cleaned", 8)
    write_summary(location, 8, {"cleaned": 900})
    leave_lease(location)
    status = status_of(location)
    assert (status.state, status.failed, status.failures) == ("running", 0, {})


def test_a_dead_owner_means_an_interruption(location: str) -> None:
    commit(location, "cleaned", 4)
    write_progress(location, 400)
    leave_lease(location, age_s=600)
    assert status_of(location).state == "interrupted"


def test_each_set_counts_its_own_shards(location: str) -> None:
    commit(location, "cleaned", 6)
    commit(location, "crowd", 4)
    write_progress(location, 400)
    status = status_of(location)
    assert {each.name: each.shards_done for each in status.sets} == {"cleaned": 6, "crowd": 4}
    assert (status.units_done, status.units) == (10, 2 * SHARDS)
    assert [each.counts is None for each in status.sets] == [False, True]


def test_a_shard_of_several_revisions_counts_once(location: str) -> None:
    commit(location, "cleaned", 2)
    storage.write_bytes(f"{location}/cleaned/verdicts/{'0' * 16}/1/00000.tar.parquet", b"an older gate")
    verdicts = next(Path(location, "cleaned", "verdicts").glob("0123*"))
    storage.write_bytes(str(verdicts / "3" / "00000.tar.parquet"), b"newer")
    storage.write_bytes(str(verdicts / "register.parquet"), b"no shard")
    assert status_of(location).units_done == 2


def test_an_unknown_number_of_shards_is_said_so(location: str) -> None:
    commit(location, "cleaned", 2)
    status = status_of(location)
    assert (status.state, status.units_done, status.units) == ("interrupted", 2, None)


@pytest.mark.parametrize("name", ["summary.json", PROGRESS_FILE])
@pytest.mark.parametrize("content", [b"", b'{"complete": tr', b"[]", b'{"shards": "many"}'])
def test_a_damaged_record_is_named_and_shards_still_count(location: str, name: str, content: bytes) -> None:
    commit(location, "cleaned", 7)
    Path(location, name).write_bytes(content)
    damage = Damage()
    status = rewriting_status(location, damage)
    assert status.units_done == 7
    assert damage.found[0].startswith(f"{location}/{name}: the ")


def test_with_damaged_progress_the_summary_has_the_counts(location: str) -> None:
    commit(location, "cleaned", 8)
    write_summary(location, 8, {"cleaned": 900})
    Path(location, PROGRESS_FILE).write_bytes(b"{")
    status = rewriting_status(location, Damage())
    assert (status.state, status.units, status.sets[0].accepted_share) == ("interrupted", SHARDS, 0.9)


def test_no_shard_is_opened(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a shard was opened")

    commit(location, "cleaned", 3)
    write_summary(location, 3, {"cleaned": 1})
    monkeypatch.setattr(storage, "read_parquet", refuse)
    monkeypatch.setattr(storage, "read_parquet_metadata", refuse)
    monkeypatch.setattr(pq, "ParquetFile", refuse)
    assert status_of(location).units_done == 3


def test_imported_sets_are_finished(tmp_path: Path) -> None:
    (tmp_path / "captions.csv").write_text("".join(f"{row}.jpg,a picture of {row}\n" for row in range(4)))
    (tmp_path / "cleaned.txt").write_text("a text\n" * 4)
    experiment = parse_experiment(
        {
            "name": "imported",
            "output": str(tmp_path / "out"),
            "data": {"path": str(tmp_path / "captions.csv"), "columns": ["path", "caption"], "image_column": "path"},
            "rewrite": {"gate": {"meaning": None}},
        }
    )
    import_rewrites(experiment, str(tmp_path / "captions.csv"), [str(tmp_path / "cleaned.txt")])
    status = status_of(experiment.rewrite_output)
    assert (status.state, status.units_done, status.sets[0].name) == ("finished", 1, "cleaned")
