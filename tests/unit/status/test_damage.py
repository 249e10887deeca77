"""A state file that cannot be read is named, and reading goes on."""

from pathlib import Path

import pytest

from laclip_ray.status.damage import Damage

REMEDY = "Remove it"


def read(path: Path, damage: Damage) -> int | None:
    return damage.read_json(str(path), "the count", REMEDY, lambda content: int(content["count"]))


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "count.json").write_text('{"count": 3}')
    damage = Damage()
    assert read(tmp_path / "count.json", damage) == 3
    assert damage.found == []


def test_a_missing_file_is_no_damage(tmp_path: Path) -> None:
    damage = Damage()
    assert read(tmp_path / "count.json", damage) is None
    assert damage.found == []


@pytest.mark.parametrize("content", [b"", b'{"cou', b"[]", b"null", b'{"count": "many"}', b"\xff\xfe"])
def test_a_damaged_file_is_named_with_the_remedy(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "count.json").write_bytes(content)
    damage = Damage()
    assert read(tmp_path / "count.json", damage) is None
    (sentence,) = damage.found
    assert sentence.startswith(f"{tmp_path}/count.json: the count cannot be read; the file is damaged (")
    assert sentence.endswith(REMEDY)


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "count.json").mkdir()
    damage = Damage()
    assert damage.read_bytes(str(tmp_path / "count.json"), "the count") is None
    assert "the count cannot be read (IsADirectoryError" in damage.found[0]
