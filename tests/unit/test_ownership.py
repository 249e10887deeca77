"""A directory belongs to the run that started in it."""

from pathlib import Path
from typing import Any

import pytest

from laclip_ray import storage
from laclip_ray.errors import UserError
from laclip_ray.lease import LEASE_FILE
from laclip_ray.ownership import changed_keys, check_empty, check_owner
from tests.cases import case


def owned(location: Path, now: dict[str, Any]) -> bool:
    return check_owner(
        str(location),
        "run.json",
        lambda before: changed_keys(before, now),
        setting="train.output",
        content="training run",
        remedy="Restore it.",
    )


def test_a_missing_or_empty_directory_has_no_owner(tmp_path: Path) -> None:
    assert not owned(tmp_path / "new", {})
    assert not owned(tmp_path, {})


def test_only_the_same_run_may_use_a_directory(tmp_path: Path) -> None:
    storage.write_json(str(tmp_path / "run.json"), {"a": 1, "b": 2})
    assert owned(tmp_path, {"a": 1, "b": 2})
    with pytest.raises(UserError, match=r"^train\.output: .* holds another training run \(b, c differ\); choose"):
        owned(tmp_path, {"a": 1, "b": 3, "c": 4})


def test_a_directory_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(UserError, match="holds files, but no training run"):
        owned(tmp_path, {})


def test_a_lease_is_not_a_file_of_another_run(tmp_path: Path) -> None:
    (tmp_path / LEASE_FILE).touch()
    assert not owned(tmp_path, {})


@case("Identity", "a cut record of a run", "refused, with the file and the remedy", exit_code=2)
@pytest.mark.parametrize("content", ["", '{"a": 1', "null", "[]"])
def test_a_damaged_record_is_named_with_a_remedy(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(UserError, match=r"run\.json: the record of this training run cannot be read; .* Restore it\."):
        owned(tmp_path, {"a": 1})


def test_a_target_is_an_empty_or_missing_directory(tmp_path: Path) -> None:
    check_empty(str(tmp_path))
    check_empty(str(tmp_path / "new"))
    (tmp_path / "file").touch()
    for taken in (tmp_path, tmp_path / "file"):
        with pytest.raises(UserError, match="already exists and is not an empty directory"):
            check_empty(str(taken))
