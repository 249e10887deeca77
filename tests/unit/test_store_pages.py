"""A listing by pages gives what one by `find` gives."""

import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import s3fs

from laclip_ray import storage
from laclip_ray.store_pages import iterate_files
from tests.figures import names_server


@pytest.fixture(scope="module")
def server() -> Iterator[names_server.Names]:
    """2,500 objects: three pages."""
    with names_server.Names(2_500, ["data/"]) as names:
        threading.Thread(target=names.serve_forever, daemon=True).start()
        yield names
        names.shutdown()


@pytest.fixture
def s3(server: names_server.Names) -> Any:
    port = server.server_address[1]
    server.put("data/sub/a/0.tar", b"zero")
    server.put("data/sub/1.tar", b"one")
    config = {"request_checksum_calculation": "when_required"}
    url = f"http://127.0.0.1:{port}"
    credentials = {"key": "any", "secret": "any"}
    return s3fs.S3FileSystem(endpoint_url=url, config_kwargs=config, skip_instance_cache=True, **credentials)


@pytest.mark.parametrize("levels", [None, 1, 2, 3])
@pytest.mark.parametrize("path", ["names/data", "names/data/", "names/data/sub", "names", "names/none"])
def test_s3_is_listed_as_find_lists_it(path: str, levels: int | None, s3: Any) -> None:
    listed = list(iterate_files(s3, path, levels))
    found = s3.find(path, maxdepth=levels, detail=True)
    assert sorted(name for name, _ in listed) == sorted(found)
    assert all(storage.identity_of(info) == storage.identity_of(found[name]) for name, info in listed)


def test_nothing_of_a_listing_stays_in_the_cache(s3: Any, server: names_server.Names) -> None:
    before = server.requests["list"]
    assert sum(1 for _ in iterate_files(s3, "names/data")) == 2_502
    assert server.requests["list"] - before == 3
    assert not s3.dircache


def test_times_are_those_of_botocore(s3: Any) -> None:
    (_, info), *_ = iterate_files(s3, "names/data/sub")
    assert info["LastModified"].isoformat() == "2026-01-01T00:00:00+00:00"


def test_other_stores_are_listed_by_find() -> None:
    root = f"memory://unit-{uuid.uuid4().hex}"
    storage.write_bytes(f"{root}/a/0.tar", b"x")
    fs, path = storage.filesystem(root)
    assert [(name.rpartition("/")[2], info["size"]) for name, info in iterate_files(fs, path)] == [("0.tar", 1)]
