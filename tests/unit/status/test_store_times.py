"""Ages are by the clock of the store."""

import os
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from laclip_ray import storage
from laclip_ray.status.store_times import times_of


class S3Like(MemoryFileSystem):  # type: ignore[misc]
    """A store that tells its time as S3 does."""

    protocol = "s3like"
    store: dict[str, Any] = {}  # noqa: RUF012 - as fsspec declares it
    pseudo_dirs = [""]  # noqa: RUF012
    headers: dict[str, str] = {"date": "Sun, 29 Nov 2026 08:00:30 GMT"}  # noqa: RUF012

    def split_path(self, path: str) -> tuple[str, str, None]:
        bucket, _, key = path.strip("/").partition("/")
        return bucket, key, None

    def call_s3(self, method: str, **of: str) -> dict[str, Any]:
        assert (method, {*of}) == ("head_object", {"Bucket", "Key"})
        if not any(path.endswith(of["Key"]) for path in self.store):
            raise FileNotFoundError(of["Key"])
        then = datetime(2026, 11, 29, 8, 0, 0, tzinfo=UTC)
        return {"LastModified": then, "ResponseMetadata": {"HTTPHeaders": self.headers}}


fsspec.register_implementation("s3like", S3Like, clobber=True)


def test_the_age_of_a_local_file_is_that_of_its_file_system(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    path.touch()
    os.utime(path, (time.time() - 30, time.time() - 30))
    times = times_of(str(path))
    assert times is not None
    assert times.is_of_store
    assert 29 < times.age_s < 60
    assert [each.name for each in tmp_path.iterdir()] == ["lease.json"]


def test_s3_is_asked_by_one_request_and_written_nothing() -> None:
    url = f"s3like://{uuid.uuid4().hex}/out/lease.json"
    storage.write_bytes(url, b"{}")
    before = dict(S3Like.store)
    times = times_of(url)
    assert times is not None
    assert (times.age_s, times.is_of_store) == (30.0, True)
    assert before == S3Like.store


def test_s3_without_a_date_is_measured_by_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"s3like://{uuid.uuid4().hex}/out/lease.json"
    storage.write_bytes(url, b"{}")
    monkeypatch.setattr(S3Like, "headers", {})
    times = times_of(url)
    assert times is not None
    assert not times.is_of_store


def test_another_store_is_asked_by_a_file_that_is_removed() -> None:
    root = f"memory://{uuid.uuid4().hex}/out"
    storage.write_bytes(f"{root}/lease.json", b"{}")
    times = times_of(f"{root}/lease.json")
    assert times is not None
    assert times.is_of_store
    fs, path = storage.filesystem(root)
    assert fs.find(path) == [f"{path}/lease.json"]


@pytest.mark.parametrize("root", ["memory://none", "s3like://none", "/none"])
def test_a_missing_file_has_no_times(root: str) -> None:
    assert times_of(f"{root}/lease.json") is None
