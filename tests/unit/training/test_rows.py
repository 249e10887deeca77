"""A run resumes only over the rows that it began with; replaced files are counted again."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from laclip_ray import storage
from laclip_ray.config import DataConfig
from laclip_ray.data.records import Shard
from laclip_ray.data.shards import list_shards
from laclip_ray.errors import UserError
from laclip_ray.training import rows
from laclip_ray.training.rows import (
    ShardRows,
    check_names,
    count_shard,
    count_up_to,
    find_rows,
    read_rows,
    write_rows,
)
from tests.cases import case
from tests.unit.conftest import picture, write_tar

OWNER = "the training run in out"


def write_data(directory: Path, name: str, captions: Sequence[str], size: int = 24) -> None:
    image = picture("JPEG", width=size)
    members = [
        (f"{row}.{kind}", content)
        for row, caption in enumerate(captions)
        for kind, content in (("jpg", image), ("txt", caption.encode()))
    ]
    write_tar(directory / f"{name}.tar", members)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataConfig:
    """Two tars, counted in this process instead of in Ray's tasks; their rows are recorded."""

    def count(data: DataConfig, shards: Sequence[Shard]) -> dict[str, ShardRows]:
        counted.extend(shard.name for shard in shards)
        return {shard.name: count_shard(data, shard) for shard in shards}

    counted: list[str] = []
    monkeypatch.setattr(rows, "count_rows", count)
    for name in ("a", "b"):
        write_data(tmp_path / "data", name, ["a cup", "a mug", " "])
    config = DataConfig(path=str(tmp_path / "data"))
    write_rows(record(config), find(config))
    assert counted == ["a.tar", "b.tar"]
    return config


def record(data: DataConfig) -> str:
    return str(Path(str(data.path)).parent / "rows.json")


def find(data: DataConfig) -> dict[str, ShardRows]:
    return find_rows(record(data), data, list_shards(data), OWNER)


def test_recorded_rows_are_read_back_without_counting(data: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "count_rows", None)
    assert {name: shard.usable for name, shard in find(data).items()} == {"a.tar": 2, "b.tar": 2}


def replaced(data: DataConfig, captions: Sequence[str], size: int = 24) -> None:
    """Replace the second tar, one second later."""
    path = Path(str(data.path)) / "b.tar"
    later_ns = path.stat().st_mtime_ns + 1_000_000_000
    write_data(path.parent, "b", captions, size)
    os.utime(path, ns=(later_ns, later_ns))


@pytest.mark.parametrize(
    "captions",
    [
        pytest.param(
            ["a dog", "a cat", " "],
            marks=case("Identity", "a shard file replaced by other samples", "refused, with names", exit_code=2),
        ),
        pytest.param(
            ["a cup"],
            marks=case("Identity", "a shard file replaced by fewer samples", "refused, with names", exit_code=2),
        ),
        pytest.param([], id="none"),
        pytest.param(["a mug", "a cup", " "], id="another order"),
        pytest.param(["a cup", "a mug", "a pot"], id="one more is usable"),
    ],
)
def test_a_file_with_other_rows_is_refused(data: DataConfig, captions: Sequence[str]) -> None:
    replaced(data, captions)
    expected = rf"^data\.path: 1 of 2 shards have other rows than when {OWNER} began \(b\.tar\), so its position"
    with pytest.raises(UserError, match=expected):
        find(data)


@case(
    "Identity",
    "a shard file copied anew, with the same rows, between two starts of a run",
    "a warning; training resumes",
)
def test_a_file_with_the_same_rows_is_accepted_with_a_warning(
    data: DataConfig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced(data, ["a cup", "a mug", " "])
    again = find(data)
    assert "1 shard files are not the ones that the training run in out began with" in caplog.text
    write_rows(record(data), again)
    monkeypatch.setattr(rows, "count_rows", None)
    assert find(data) == again


def test_records_of_earlier_versions_are_compared_by_their_numbers(data: DataConfig) -> None:
    storage.write_json(record(data), {"a.tar": 2, "b.tar": 2})
    assert all(shard.source and shard.digest for shard in find(data).values())
    storage.write_json(record(data), {"a.tar": 2, "b.tar": 3})
    with pytest.raises(UserError, match=r"1 of 2 shards have other rows .*\(b\.tar\)"):
        find(data)


def test_the_first_range_of_a_table_keeps_its_rows_under_its_new_name(tmp_path: Path) -> None:
    url = str(tmp_path / "rows.json")
    storage.write_json(url, {"a.csv.000000000": 5, "a.csv.000000005": 4, "b.000000000": 1})
    recorded = read_rows(url, ["a.csv", "a.csv.000000005", "b.000000000"])
    assert recorded is not None
    assert list(recorded) == ["a.csv", "a.csv.000000005", "b.000000000"]


def test_other_shards_are_named() -> None:
    check_names(["a", "b"], ["b", "a"], OWNER)
    with pytest.raises(UserError, match=r"missing: a; new: c, d"):
        check_names(["a", "b"], ["b", "c", "d"], OWNER)


def test_rows_without_a_usable_image_and_unreadable_files_are_not_counted(tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(b"<html>" + bytes(9_000))
    write_tar(tmp_path / "1.tar", [("a.jpg", bytes(99)), ("a.txt", b"one"), ("b.jpg", bytes(9)), ("b.txt", b"two")])
    data = DataConfig(path=str(tmp_path), max_image_bytes=90)
    assert [count_shard(data, shard).usable for shard in list_shards(data)] == [0, 1]


def test_counting_up_to_a_number_reads_no_more_shards_than_it_needs(data: DataConfig, tmp_path: Path) -> None:
    shards = list_shards(data)
    total = sum(count_shard(data, shard).usable for shard in shards)
    missing = replace(shards[0], url=str(tmp_path / "missing.tar"))
    assert count_up_to(10 * total, data, shards) == total
    assert count_up_to(1, data, [*shards, missing]) == 1


def listed(data: DataConfig, rows_of_a: int) -> list[Shard]:
    """The shards, of which a dataset index counts one."""
    shards = list_shards(data)
    return [replace(shards[0], listed_rows=rows_of_a), *shards[1:]]


def test_shards_that_the_dataset_index_counts_are_not_opened(data: DataConfig, tmp_path: Path) -> None:
    (tmp_path / "data" / "a.tar").write_bytes(bytes(99_999))  # reading it would give no row
    found = find_rows(str(tmp_path / "new.json"), data, listed(data, 7), OWNER)
    assert {name: (shard.usable, shard.is_of_index) for name, shard in found.items()} == {
        "a.tar": (7, True),
        "b.tar": (2, False),
    }
    of_captions = data.model_copy(update={"captions": "all"})  # a row may be several samples
    assert find_rows(str(tmp_path / "new.json"), of_captions, listed(data, 7), OWNER)["a.tar"].usable == 0


@case("Identity", "a shard replaced in a run that took its rows from the dataset index", "refused", exit_code=2)
def test_a_replaced_file_is_refused_if_its_rows_were_never_read(data: DataConfig, tmp_path: Path) -> None:
    url = str(tmp_path / "new.json")
    write_rows(url, find_rows(url, data, listed(data, 3), OWNER))
    assert find_rows(url, data, listed(data, 3), OWNER)["a.tar"].usable == 3
    write_data(tmp_path / "data", "b", ["a cup", "a mug", " "], size=32)
    find_rows(url, data, listed(data, 3), OWNER)
    write_data(tmp_path / "data", "a", ["a cup", "a mug", " "], size=32)
    with pytest.raises(UserError, match=r"1 of 2 shard files were replaced .*\(a\.tar\), and it took their rows"):
        find_rows(url, data, listed(data, 3), OWNER)
