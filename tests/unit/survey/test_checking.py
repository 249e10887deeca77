"""`laclip data check` counts what is wrong in every shard, and ends with 3 if shards cannot be read."""

import json
from pathlib import Path

import pytest

from laclip_ray.cli import main
from laclip_ray.config import DataConfig
from laclip_ray.data.image_formats import IMAGE_UNREADABLE
from laclip_ray.data.records import CAPTION_EMPTY, DUPLICATE_ID, IMAGE_MISSING
from laclip_ray.survey.checking import ID_IN_OTHER_SHARD, NAME_UNPRINTABLE, DataCheck, check_data
from tests import layouts
from tests.cases import case
from tests.unit.conftest import picture, write_tar

ESC = "\x1b[31mred"


def checked(path: Path | str, rows: int = 100, with_pictures: bool = True) -> DataCheck:
    return check_data(DataConfig(path=str(path)), None, rows, with_pictures, lambda done, total: None)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    image = picture("JPEG")
    members = {
        "0": [("a.jpg", image), ("a.txt", b"a red fox"), ("b.jpg", b"broken"), ("b.txt", b"fox"), ("c.txt", b"a hare")],
        "1": [("a.jpg", image), ("a.txt", b"a red fox"), ("d.jpg", image), ("d.txt", b" ")],
        "2": [("a.jpg", image), ("a.txt", b"an owl"), ("a.jpg", image), ("a.txt", b"an owl"), (f"{ESC}.txt", b"x y")],
    }
    for name, of_tar in members.items():
        write_tar(tmp_path / "data" / f"{name}.tar", of_tar)
    (tmp_path / "config.yaml").write_text(f"name: t\noutput: out\ndata: {{path: {tmp_path / 'data'}}}\n")
    return tmp_path / "data"


def test_every_fault_is_counted_by_its_reason(data: Path) -> None:
    check = checked(data)
    assert (check.shards, check.rows, check.captions.captions) == (3, 8, 7)
    assert check.problems.counts == {
        IMAGE_UNREADABLE: 1, IMAGE_MISSING: 2, CAPTION_EMPTY: 1, DUPLICATE_ID: 1, ID_IN_OTHER_SHARD: 2,
        NAME_UNPRINTABLE: 1,
    }  # fmt: skip
    assert check.captions.repeated_share == 4 / 7
    assert len(check.pictures.sizes) == 5


def test_only_the_first_rows_of_each_shard_are_read(data: Path) -> None:
    assert checked(data, rows=1).rows == 3


def test_without_pictures_none_is_decoded(data: Path) -> None:
    check = checked(data, with_pictures=False)
    assert not check.pictures.sizes
    assert IMAGE_UNREADABLE not in check.problems.counts


@pytest.mark.parametrize("layout", layouts.WITH_PICTURES[:4], ids=lambda layout: layout.__name__)
def test_layouts_without_faults_have_none(layout: layouts.Layout, tmp_path: Path) -> None:
    data = DataConfig(path=layout(tmp_path / "set"), **layouts.EXPECTED[layout])
    check = check_data(data, None, 64, True, lambda done, total: None)
    assert (check.rows, len(check.pictures.sizes)) == (layouts.PAIRS, layouts.PAIRS)
    assert not check.problems.counts
    assert not check.unreadable


def test_progress_is_told_for_every_shard(data: Path) -> None:
    told: list[tuple[int, int]] = []
    check_data(DataConfig(path=str(data)), None, 1, False, lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


@case("Reading data", "`laclip data check` and a file named .tar that is none", "the others are counted; exit code 3")
def test_unreadable_shards_end_with_3_and_their_names(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "3.tar").write_bytes(b"<html>")
    with pytest.raises(SystemExit) as exited:
        main(["data", "check", str(data.parent / "config.yaml"), "--json"])
    assert exited.value.code == 3
    printed = capsys.readouterr()
    assert "1 of 4 shards cannot be read (3.tar)" in printed.err
    told = json.loads(printed.out)
    assert (told["exit_code"], told["outcome"]) == (3, "incomplete")
    content = told["summary"]
    assert [*content["shards_unreadable"]] == ["3.tar"]
    assert content["rows_read"] == 8


def test_data_without_a_usable_picture_warns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tar(tmp_path / "0.tar", [("a.jpg", b"broken"), ("a.txt", b"a red fox")])
    (tmp_path / "config.yaml").write_text(f"name: t\noutput: out\ndata: {{path: {tmp_path / '0.tar'}}}\n")
    main(["data", "check", str(tmp_path / "config.yaml")])
    assert "none of the 1 pictures read can be used" in capsys.readouterr().err


def test_texts_from_data_are_printed_escaped(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "check", str(data.parent / "config.yaml")])
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "\\x1b[31mred" in printed
