"""A directory belongs to the run that started in it."""

from pathlib import Path
from typing import Any

import pytest

from laclip_ray import storage
from laclip_ray.errors import UserError
from laclip_ray.ownership import changed_keys, check_empty, check_owner


def owned(location: Path, now: dict[str, Any]) -> bool:
    return check_owner(
        str(location),
        "run.json",
        lambda before: changed_keys(before, now),
        setting="train.output",
        content="training run",
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


def test_a_target_is_an_empty_or_missing_directory(tmp_path: Path) -> None:
    check_empty(str(tmp_path))
    check_empty(str(tmp_path / "new"))
    (tmp_path / "file").touch()
    for taken in (tmp_path, tmp_path / "file"):
        with pytest.raises(UserError, match="already exists and is not an empty directory"):
            check_empty(str(taken))
