"""Trackers get a sample of draws: captions with all their draws, each outcome, scores and pictures."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from laclip_ray.config import TrackConfig
from laclip_ray.rewriting.sample_table import sample_table
from laclip_ray.rewriting.storing.store import RewriteSet
from laclip_ray.tracking.tracker import Picture, Table
from tests.unit.run_report.stored_runs import GATE, HOSTILE, SETS, experiment, write_data, write_rewrites

CAPTIONS = [*HOSTILE, *(f"caption {number}" for number in range(31))]


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    write_data(tmp_path / "data", CAPTIONS)
    write_rewrites(str(tmp_path / "out" / "rewrites"), CAPTIONS)
    return tmp_path


def table_of(stored: Path, **track: Any) -> Table | None:
    of = experiment(stored / "out", stored / "data")
    sets = [RewriteSet(f"{of.rewrite_output}/{name}", GATE) for name in SETS]
    committed = {each: each.committed_revisions() for each in sets}
    return sample_table(committed, of.data, 1, of.output, TrackConfig(report_to=["mlflow"], **track), seed=0)


def column(table: Table, name: str) -> list[Any]:
    return [row[table.columns.index(name)] for row in table.rows]


def test_captions_have_the_draws_of_every_set_their_outcome_and_scores(stored: Path) -> None:
    table = table_of(stored, sample_rows=20)
    assert table is not None
    assert len(table.rows) == 20
    assert table.columns[:6] == ("picture", "id", "caption", "rewrite", "prompt_set", "outcome")
    assert {*column(table, "prompt_set")} == {*SETS}
    assert {*column(table, "outcome")} == {"accepted", "too_short"}
    assert all(0 < score <= 0.9 for score in column(table, "score_meaning"))
    for caption in {*column(table, "caption")}:
        assert column(table, "caption").count(caption) == len(SETS)
        assert caption in CAPTIONS


def test_pictures_are_small_copies(stored: Path) -> None:
    table = table_of(stored, sample_rows=8)
    assert table is not None
    for picture in column(table, "picture"):
        assert isinstance(picture, Picture)
        assert picture.jpeg.startswith(b"\xff\xd8")
        assert len(picture.jpeg) < 20_000


def test_all_rows_are_there_if_fewer_than_wanted(stored: Path) -> None:
    table = table_of(stored, sample_rows=10_000)
    assert table is not None
    assert len(table.rows) == len(CAPTIONS) * len(SETS)


def test_pictures_are_not_read_where_none_are_wanted(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a picture was opened")

    monkeypatch.setattr(Image, "open", fail)
    assert (table := table_of(stored, pictures=False)) is not None
    assert "picture" not in table.columns


def test_no_caption_is_sent_where_none_is_wanted(stored: Path) -> None:
    assert table_of(stored, sample_rows=0) is None


def test_without_a_committed_shard_there_is_no_table(tmp_path: Path) -> None:
    assert table_of(tmp_path) is None


def test_without_the_data_there_are_no_pictures(stored: Path) -> None:
    (stored / "data" / "00000.tar").unlink()
    assert (table := table_of(stored)) is not None
    assert table.columns[0] == "id"
