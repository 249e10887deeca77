"""Images that table rows name are read in order, from where the config allows it, or have a problem with a name."""

import errno
import json
import os
import pickle
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, NoCredentialsError

from laclip_ray import storage
from laclip_ray.config import DataConfig
from laclip_ray.data import image_sources
from laclip_ray.data.http_images import IMAGE_SCHEME_REFUSED, IMAGE_URL_INVALID
from laclip_ray.data.image_formats import IMAGE_TOO_LARGE
from laclip_ray.data.image_sources import ImageSource, Place, StoreError
from laclip_ray.data.records import IMAGE_MISSING
from laclip_ray.data.shards import list_shards, read_samples
from tests.cases import case
from tests.unit.data.files import captions, read
from tests.unit.data.hub import PAGE, hub
from tests.unit.data.servers import Answer, TestStore, http_server

SECTION = "Reading data"


def manifest(path: Path, images: Sequence[str | None], **data: Any) -> DataConfig:
    """Write a table of images at `path`, and return the config that reads it."""
    rows = [{"caption": f"caption {number}", "image": image} for number, image in enumerate(images)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return DataConfig(path=str(path), image_column="image", **data)


def images(data: DataConfig) -> list[bytes | str]:
    """The image of each row, or its problem."""
    return [sample.problems[0] if sample.image is None else sample.image for sample in read(data)]


def image_of(value: object, table: str = "/tables/a.csv", **data: Any) -> bytes | str:
    source = ImageSource(table, DataConfig(path=table, image_column="image", **data))
    place = source.locate(value)
    try:
        return source.read(place) if isinstance(place, Place) else place
    finally:
        source.close()


def test_images_of_a_manifest_are_relative_to_it_or_to_the_configured_root(tmp_path: Path) -> None:
    for name in ("tables/x.png", "pictures/x.png"):
        storage.write_bytes(str(tmp_path / name), name.encode())
    data = manifest(tmp_path / "tables" / "a.jsonl", ["x.png", f"{tmp_path}/tables/x.png", "./../tables/x.png"])
    assert images(data) == [b"tables/x.png"] * 3
    data = manifest(tmp_path / "tables" / "a.jsonl", ["x.png"], image_root=str(tmp_path / "pictures"))
    assert images(data) == [b"pictures/x.png"]


OUTSIDE = ("/etc/passwd", "file:///etc/passwd", "../other/x.png", "//etc/passwd", "to_other.png", "other/x.png")


@pytest.mark.parametrize("image", OUTSIDE)
@case(
    SECTION,
    "a manifest with `file:///etc/passwd`, an absolute path, `..`, or a link that leads out of the table's directory",
    "the file is not read; the row is counted",
    counted_as="image_outside_root",
)
def test_a_local_path_outside_the_root_is_not_read(image: str, tmp_path: Path) -> None:
    storage.write_bytes(str(tmp_path / "other" / "x.png"), b"x")
    data = manifest(tmp_path / "tables" / "a.jsonl", [image])
    (tmp_path / "tables" / "to_other.png").symlink_to("../other/x.png")
    (tmp_path / "tables" / "other").symlink_to("../other")
    assert images(data) == [image_sources.IMAGE_OUTSIDE_ROOT]


@case(SECTION, "absolute paths and links, with data.image_root: /", "any local file is read")
def test_the_root_directory_as_image_root_allows_every_file(tmp_path: Path) -> None:
    storage.write_bytes(str(tmp_path / "other" / "x.png"), b"x")
    (tmp_path / "link.png").symlink_to("other/x.png")
    paths = [f"{tmp_path}/other/x.png", f"file://{tmp_path}/link.png", f"{tmp_path}/none.png"]
    data = manifest(tmp_path / "tables" / "a.jsonl", paths, image_root="/")
    assert images(data) == [b"x", b"x", IMAGE_MISSING]


def test_links_within_the_root_are_followed(tmp_path: Path) -> None:
    storage.write_bytes(str(tmp_path / "root" / "other" / "x.png"), b"x")
    (tmp_path / "root" / "link.png").symlink_to("other/x.png")
    (tmp_path / "linked").symlink_to("root")
    data = manifest(tmp_path / "linked" / "a.jsonl", ["link.png", "other/x.png"])
    assert images(data) == [b"x", b"x"]


@pytest.mark.parametrize(
    "image", ["none.png", "", "a\x00b.png", ".", "..", "pipe", "loop", "a.jsonl/x.png", "n" * 300, "\udc80", None]
)
@case(
    SECTION,
    "an image path that names no file, or a named pipe",
    "the row is counted",
    counted_as="image_missing",
)
def test_a_path_of_no_file_is_a_missing_image(image: str | None, tmp_path: Path) -> None:
    data = manifest(tmp_path / "a.jsonl", [image])
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    assert images(data) == [IMAGE_MISSING]


@case(SECTION, "a local image of more than data.max_image_bytes", "it is not read", counted_as="image_too_large")
def test_a_large_local_file_is_not_read(tmp_path: Path) -> None:
    for size in (99, 100, 101):
        storage.write_bytes(str(tmp_path / f"{size}.png"), bytes(size))
    data = manifest(tmp_path / "a.jsonl", ["99.png", "100.png", "101.png"], max_image_bytes=100)
    assert images(data) == [bytes(99), bytes(100), IMAGE_TOO_LARGE]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM])
@case(SECTION, "a local image that the process may not read", "the row is counted", counted_as="image_refused")
def test_a_local_file_that_may_not_be_read_is_refused(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "open", raising(OSError(code, "not allowed")))
    assert image_of("x.png", f"{tmp_path}/a.csv") == image_sources.IMAGE_REFUSED


@case(SECTION, "a local disk or mount that fails (EIO, ESTALE)", "the shard fails", exit_code=3)
def test_a_local_disk_that_fails_is_not_a_missing_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "open", raising(OSError(errno.ESTALE, "stale file handle")))
    with pytest.raises(StoreError, match=r"x\.png could not be read .*stale file handle"):
        image_of("x.png", f"{tmp_path}/a.csv")


@case(
    SECTION, "data.image_root that does not exist on a node", "the shard fails; no row counts as missing", exit_code=3
)
def test_a_missing_root_is_not_a_missing_image(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"data\.image_root: .*/nowhere does not exist on "):
        image_of("x.png", image_root=f"{tmp_path}/nowhere")


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    "image",
    ["ftp://host/x.png", "s3://bucket/x.png", "nosuch://a", "simplecache::file:///etc/passwd", "local:///etc/passwd"],
)
@case(
    SECTION,
    "a manifest URL with a scheme that is neither the table's own nor in data.image_schemes",
    "no request is sent; the row is counted",
    counted_as="image_scheme_refused",
)
def test_a_url_with_another_scheme_is_not_requested(image: str) -> None:
    assert image_of(image) == IMAGE_SCHEME_REFUSED


def test_schemes_of_the_table_the_root_and_the_config_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TestStore, "answer", lambda path: path.encode())
    url = "teststore://bucket/x.png"
    assert image_of(url) == IMAGE_SCHEME_REFUSED
    assert image_of(url, image_schemes=["TESTSTORE"]) == b"bucket/x.png"
    assert image_of(url, "teststore://other/a.csv", image_schemes=[]) == b"bucket/x.png"
    assert image_of(url, image_root="teststore://other", image_schemes=[]) == b"bucket/x.png"


@case(
    SECTION, "data.image_schemes with an unknown scheme, or one whose package is not installed", "refused", exit_code=2
)
def test_a_scheme_that_cannot_be_read_is_refused() -> None:
    for scheme in ("nosuch", "gs"):
        with pytest.raises(ValueError, match=f"'{scheme}' cannot be read .*; install its package or leave it out"):
            DataConfig(path="a", image_schemes=["http", scheme])


def test_a_path_below_a_remote_root_stays_below_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TestStore, "answer", lambda path: path.encode())
    table = "teststore://bucket/tables/a.csv"
    assert image_of("x.png", table) == b"bucket/tables/x.png"
    assert image_of("d/../x.png", table) == b"bucket/tables/d/../x.png"
    for outside in ("../x.png", "d/../../x.png", "/etc/passwd"):
        assert image_of(outside, table) == image_sources.IMAGE_OUTSIDE_ROOT
    assert image_of("file:///etc/passwd", table) == IMAGE_SCHEME_REFUSED
    assert image_of("file:///etc/passwd", table, image_schemes=["file"]) == image_sources.IMAGE_OUTSIDE_ROOT
    assert image_of("a::file:///etc/passwd", table) == IMAGE_SCHEME_REFUSED
    assert image_of("a::b", table) == IMAGE_URL_INVALID


def test_an_object_is_read_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TestStore, "answer", lambda path: bytes(int(path.split("/")[1])))
    source = ImageSource("teststore://b/a.csv", DataConfig(path="a", image_column="image", max_image_bytes=100))
    monkeypatch.setattr(image_sources, "_AHEAD_BYTES", 50)
    for size, in_turn, ahead in ((50, bytes(50), bytes(50)), (100, bytes(100), None), (101, IMAGE_TOO_LARGE, None)):
        place = source.locate(f"{size}")
        assert isinstance(place, Place)
        assert source.read(place) == in_turn
        assert source.read_ahead(place) == ahead


def s3_error(kind: type[OSError], code: str) -> OSError:
    """An error as s3fs raises it."""
    error = kind(code)
    error.__cause__ = ClientError({"Error": {"Code": code, "Message": "no"}}, "GetObject")
    return error


@pytest.mark.parametrize(
    "error",
    [
        s3_error(PermissionError, "AccessDenied"),
        s3_error(PermissionError, "ExpiredToken"),
        s3_error(FileNotFoundError, "NoSuchBucket"),
        OSError(errno.EBUSY, "503 Slow Down"),
        TimeoutError("read timed out"),
        NoCredentialsError(),
        ConnectionResetError("reset by peer"),
    ],
    ids=lambda error: type(error).__name__,
)
@case(
    SECTION,
    "images in the dataset's own bucket: credentials refused, expired or absent; no such bucket; time-outs; 503",
    "the shard fails; no row counts as missing",
    exit_code=3,
)
def test_a_store_that_refuses_or_fails_is_not_a_missing_image(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TestStore, "answer", raising(error))
    monkeypatch.setattr(TestStore, "info", raising(error))
    for image in ("x.png", "teststore://bucket/x.png"):
        with pytest.raises(
            StoreError, match=r"data\.image_column: teststore://bucket/.*x\.png could not be read"
        ) as caught:
            image_of(image, "teststore://bucket/tables/a.csv")
        assert isinstance(caught.value, OSError)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301 - Ray does the same


@pytest.mark.parametrize("error", [s3_error(FileNotFoundError, "NoSuchKey"), FileNotFoundError("gone")])
@case(SECTION, "an image that the dataset's own bucket does not have", "the row is counted", counted_as="image_missing")
def test_an_unknown_object_of_the_own_store_is_missing(error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TestStore, "answer", raising(error))
    assert image_of("x.png", "teststore://bucket/a.csv") == IMAGE_MISSING


def test_an_empty_object_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TestStore, "answer", raising(OSError(errno.EINVAL, "InvalidRange")))
    assert image_of("x.png", "teststore://bucket/a.csv") == b""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError("denied"), "image_http_403"),
        (FileNotFoundError("gone"), "image_http_404"),
        (TimeoutError("slow"), "image_timeout"),
        (NoCredentialsError(), "image_connection_failed"),
    ],
)
def test_errors_of_a_bucket_that_is_not_the_datasets_own_are_problems(
    error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TestStore, "answer", raising(error))
    assert image_of("teststore://elsewhere/x.png", "teststore://bucket/a.csv") == reason


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
@case(
    SECTION,
    "a table on an HTTP server that answers 401, 403, 429 or 5xx for its images",
    "the shard fails; no row counts as missing",
    exit_code=3,
)
def test_an_own_http_server_that_refuses_is_not_a_missing_image(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("laclip_ray.data.http_images._PAUSES_S", (0.0, 0.0))
    with http_server(lambda path: Answer(404 if path == "/gone" else status)) as (url, _):
        assert image_of("gone", f"{url}/a.csv") == IMAGE_MISSING
        with pytest.raises(StoreError, match=f"image_http_{status}"):
            image_of("x.png?token=secret-text", f"{url}/a.csv")


def test_a_message_about_a_store_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TestStore, "answer", raising(PermissionError("denied")))
    with pytest.raises(StoreError) as caught:
        image_of("teststore://bucket/x.png?sig=abcdefgh", "teststore://bucket/a.csv")
    assert "abcdefgh" not in str(caught.value)


def test_remote_images_are_fetched_in_parallel_and_keep_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = threading.Barrier(4, timeout=120)  # passed only where four are asked for before one is there
    first = {f"pictures/{number}.png" for number in range(4)}

    def answer(path: str) -> bytes:
        if path in first:
            at_once.wait()
        return path.encode()

    monkeypatch.setattr(TestStore, "answer", answer)
    names = [f"pictures/{number}.png" for number in range(100)]
    data = manifest(tmp_path / "a.jsonl", [f"teststore://{name}" for name in names], image_schemes=["teststore"])
    samples = read(data)
    assert [sample.image for sample in samples] == [name.encode() for name in names]
    assert captions(samples) == [f"caption {number}" for number in range(100)]


def test_remote_images_are_not_fetched_far_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(path: str) -> bytes:
        asked.append(path)
        return b""

    monkeypatch.setattr(TestStore, "answer", answer)
    names = [f"teststore://pictures/{number}.png" for number in range(1_000)]
    data = manifest(tmp_path / "a.jsonl", names, image_schemes=["teststore"])
    samples = read_samples(list_shards(data)[0], data, with_images=True)
    next(samples)
    assert len(asked) <= 33
    del samples


def test_a_large_remote_image_does_not_wait_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(path: str) -> bytes:
        asked.append(path)
        return bytes(20 if path == "b/large" else 10)

    monkeypatch.setattr(TestStore, "answer", answer)
    monkeypatch.setattr(image_sources, "_AHEAD_BYTES", 10)
    names = ["teststore://b/small", "teststore://b/large", "teststore://b/small"]
    data = manifest(tmp_path / "a.jsonl", names, image_schemes=["teststore"])
    assert images(data) == [bytes(10), bytes(20), bytes(10)]
    assert sorted(asked) == ["b/large", "b/large", "b/small", "b/small"]


def test_one_bad_image_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("laclip_ray.data.http_images._PAUSES_S", (0.0, 0.0))
    answers = {"/a": Answer(body=b"a"), "/b": Answer(503), "/c": Answer(403), "/d": Answer(body=b"d")}
    with http_server(answers.__getitem__) as (url, _):
        data = manifest(tmp_path / "a.jsonl", [f"{url}/{name}" for name in "abcd"], private_hosts=True)
        assert images(data) == [b"a", "image_http_503", "image_http_403", b"d"]


def test_images_may_lie_below_the_page_of_a_data_set_on_the_hub(tmp_path: Path) -> None:
    with hub({"images/a.png": b"content"}):
        config = DataConfig(path="t.csv", image_column="image", image_root=f"{PAGE}/images")
        source = ImageSource(str(tmp_path / "t.csv"), config)
        place = source.locate("a.png")
        assert isinstance(place, Place)
        assert source.read(place) == b"content"
