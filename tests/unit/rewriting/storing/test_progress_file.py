"""The progress of a run is in one small file, which never stops rewriting."""

import logging
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest

from laclip_ray import storage
from laclip_ray.rewriting.storing import progress_file
from laclip_ray.rewriting.storing.progress_file import FAILURES_KEPT, ProgressFile, RewritingProgress
from laclip_ray.rewriting.storing.statistics import Statistics

FAILURES = {f"cleaned/{number}.tar": "cannot be read: cut" for number in range(50)}


def progress(failures: dict[str, str] | None = None) -> RewritingProgress:
    statistics = Statistics(captions=10, accepted=7, unfilled=Counter(too_short=2, looping=1))
    return RewritingProgress.of(5, {"cleaned": statistics}, failures or {})


def test_the_file_reads_back_to_what_was_written(tmp_path: Path) -> None:
    ProgressFile(str(tmp_path)).write(progress(FAILURES))
    content = storage.read_json(str(tmp_path / "progress.json"))
    assert RewritingProgress.from_json(content) == progress(FAILURES)


def test_slots_are_the_accepted_and_the_unfilled_rewrites() -> None:
    assert asdict(progress().sets["cleaned"]) == {"captions": 10, "accepted": 7, "slots": 10}


def test_failures_are_counted_and_the_first_are_named() -> None:
    assert (progress(FAILURES).failed, len(progress(FAILURES).failures)) == (50, FAILURES_KEPT)


def test_the_file_is_due_at_first_and_after_its_period(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = ProgressFile(str(tmp_path))
    assert file.is_due
    file.write(progress())
    due = [file.is_due]
    monkeypatch.setattr(progress_file, "_PERIOD_S", 0.0)
    assert [*due, file.is_due] == [False, True]


def test_a_removed_file_is_gone_and_may_be_removed_again(tmp_path: Path) -> None:
    file = ProgressFile(str(tmp_path))
    file.write(progress())
    file.remove()
    file.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_refuses_is_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    file = ProgressFile(str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        file.write(progress())
        file.write(progress())
    assert len(caplog.records) == 1
    assert "cannot be written, and rewriting continues without it" in caplog.text
