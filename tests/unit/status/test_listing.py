"""Directories are listed with times, on every kind of storage, and without unfinished files."""

import time
import uuid
from pathlib import Path

import pytest

from laclip_ray import storage
from laclip_ray.status.listing import list_below, list_directory


@pytest.fixture(params=["local", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A directory of two files at different depths."""
    root = str(tmp_path / "out") if request.param == "local" else f"memory://{uuid.uuid4().hex}/out"
    storage.write_bytes(storage.join(root, "a.json"), b"12345")
    storage.write_bytes(storage.join(root, "sub", "deep", "b.json"), b"1")
    storage.write_bytes(storage.join(root, f"c.json{storage.ASIDE_MARK}1"), b"1")
    return root


def test_a_directory_has_its_files_and_directories(url: str) -> None:
    directory = list_directory(url)
    assert directory is not None
    assert ({*directory.files}, directory.directories) == ({"a.json"}, ("sub",))
    assert directory.files["a.json"].size_bytes == 5
    assert not directory.is_empty


def test_files_have_the_times_of_their_store(url: str) -> None:
    times = [file.modified_s for file in list_below(url)]
    assert all(time_s is not None and abs(time_s - time.time()) < 60 for time_s in times)


def test_files_below_are_named_from_the_directory(url: str) -> None:
    assert {file.path for file in list_below(url)} == {"a.json", "sub/deep/b.json"}


def test_a_missing_directory_or_a_file_is_no_directory(url: str) -> None:
    assert list_directory(storage.join(url, "none")) is None
    assert list_directory(storage.join(url, "a.json")) is None
    assert list(list_below(storage.join(url, "none"))) == []


def test_an_empty_directory_is_empty(tmp_path: Path) -> None:
    directory = list_directory(str(tmp_path))
    assert directory is not None
    assert directory.is_empty
