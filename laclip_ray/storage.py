"""All file access: local paths and any fsspec URL, whole-file commits, and checks of output locations.

Guarantees: a file appears only when it is complete (a local file is written aside and renamed, an object store gets one
put). Readers never see a part of a file.

Not covered: concurrent writers of one file; the last one wins. `creation` lets the first one win.
"""

import contextlib
import errno
import json
import os
import posixpath
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import fsspec
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from laclip_ray.errors import UserError
from laclip_ray.redaction import redact
from laclip_ray.store_pages import iterate_files

T = TypeVar("T")

ASIDE_MARK = ".tmp-"
"""Part of the name of every unfinished file. Readers skip such files."""

_LONGEST_NAME_BYTES = 255
"""Of a file, on the usual file systems."""

_FOOTER_BYTES = 2**16
"""Fetched from the end of a remote Parquet file for its footer."""


def is_local(url: str) -> bool:
    """Whether `url` is a path on a local file system."""
    return "://" not in url or url.startswith("file://")


def join(base: str, *parts: str) -> str:
    """`base`, a path or a URL, with `parts` below it."""
    return "/".join([base.rstrip("/"), *(part.strip("/") for part in parts)])


def name_of(url: str) -> str:
    """The last part of a path or URL."""
    return posixpath.basename(url.rstrip("/"))


def filesystem(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The fsspec file system of `url` and the path in it.

    Raises:
        UserError: fsspec does not know the URL's protocol, or its package is not installed.
    """
    try:
        fs, path = url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise UserError(f"{url}: {error}") from error
    return fs, path


def ray_filesystem(url: str) -> tuple[Any, str]:
    """Ray's `storage_filesystem` and `storage_path` for `url`; for a local one, None and an absolute path."""
    fs, path = filesystem(url)
    return (None if is_local(url) else pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(fs))), path


def exists(url: str) -> bool:
    """Whether there is a file or directory at `url`."""
    fs, path = filesystem(url)
    return bool(fs.exists(path))


def is_directory(url: str) -> bool:
    """Whether `url` is a directory (on an object store: a prefix of some key)."""
    fs, path = filesystem(url)
    return bool(fs.isdir(path))


def list_files(url: str) -> list[str]:
    """Every complete file below the directory `url`, sorted; empty for a missing directory."""
    fs, path = filesystem(url)
    fs.invalidate_cache()
    return sorted(url_of(fs, file, url) for file in fs.find(path) if ASIDE_MARK not in name_of(file))


def list_entries(url: str) -> dict[str, Mapping[str, Any]]:
    """fsspec's entry of every complete file below the directory `url`, by its path below it, in order.

    One listing gives them. A missing directory has no files.
    """
    return dict(sorted(iterate_entries(url)))


def iterate_entries(url: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The path and entry of every file that `list_entries` gives, in no order, in the memory of one page."""
    fs, path = filesystem(url)
    start = len(path.rstrip("/")) + 1
    for file, info in iterate_files(fs, path):
        if ASIDE_MARK not in name_of(file):
            yield file[start:], info


def url_of(fs: fsspec.AbstractFileSystem, path: str, url: str) -> str:
    """A path of a file system in the form of `url`: a local path, or with the protocol."""
    return path if is_local(url) else str(fs.unstrip_protocol(path))


def list_directories(url: str) -> list[str]:
    """The names of the directories in the directory `url`; empty for a missing directory."""
    fs, path = filesystem(url)
    fs.invalidate_cache()
    try:
        return sorted(name_of(info["name"]) for info in fs.ls(path, detail=True) if info["type"] == "directory")
    except FileNotFoundError:
        return []


def read_bytes(url: str) -> bytes:
    """The content of a file."""
    fs, path = filesystem(url)
    # To fetch parts at once, s3fs asks for the size first, lists if there is no file, and gives up a part that is cut.
    options = {"max_concurrency": 1} if "s3" in fs.protocol else {}
    content: bytes = fs.cat_file(path, **options)
    return content


def read_json(url: str) -> Any:
    """The content of a JSON file."""
    return json.loads(read_bytes(url))


def read_state(url: str, what: str, remedy: str, parse: Callable[[Any], T]) -> T:
    """Read a JSON file that a run keeps its state in.

    Args:
        url: the file.
        what: names the content, for the message: `the record of this training run`.
        remedy: the user's way out of a damaged file.
        parse: turns the JSON value into the state.

    Raises:
        UserError: the file is not JSON, or `parse` does not understand it.
        FileNotFoundError: there is no such file.
    """
    with damage_named(url, what, remedy):
        return parse(read_json(url))


@contextlib.contextmanager
def damage_named(url: str, what: str, remedy: str) -> Iterator[None]:
    """Turn the errors of a reader that meets a damaged file into a UserError; arguments as in `read_state`.

    A cut Parquet file is an `ArrowInvalid`, which is a ValueError.
    """
    try:
        yield
    except UserError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, EOFError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{url}: {what} cannot be read; the file is damaged ({reason}). {remedy}") from error


def write_bytes(url: str, content: bytes) -> None:
    """Commit a file; missing directories are created."""
    fs, path = filesystem(url)
    if not is_local(url):
        fs.pipe_file(path, content)
        return
    with written_aside(Path(path), content) as aside:
        aside.replace(path)


@contextlib.contextmanager
def written_aside(target: Path, content: bytes) -> Iterator[Path]:
    """A file beside `target` with this content, removed at the end."""
    target.parent.mkdir(parents=True, exist_ok=True)
    mark = f"{ASIDE_MARK}{uuid.uuid4().hex}"
    fits = len(os.fsencode(target.name)) + len(mark) <= _LONGEST_NAME_BYTES
    aside = target.with_name(f"{target.name if fits else ''}{mark}")
    try:
        aside.write_bytes(content)
        yield aside
    finally:
        aside.unlink(missing_ok=True)


def modified_s(url: str) -> float:
    """When a file was last written: seconds since 1970 by the clock of its store, or of its server."""
    fs, path = filesystem(url)
    fs.invalidate_cache()
    modified: float = fs.modified(path).timestamp()
    return modified


def remove(url: str) -> None:
    """Remove a file if it exists."""
    fs, path = filesystem(url)
    with contextlib.suppress(FileNotFoundError):
        fs.rm_file(path)


def identity(url: str) -> str:
    """A text that differs between a file and its replacement: its size, and its etag or modification time if known.

    Equal identities are taken for the same file. Different ones do not imply different content: a copy has a new time.
    """
    fs, path = filesystem(url)
    return identity_of(fs.info(path))


def identity_of(info: Mapping[str, Any]) -> str:
    """The identity of a file by its fsspec entry, as `info` or a listing gives it."""
    changes = (
        info.get(key) for key in ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "blob_id")
    )
    return "-".join(str(part).strip('"') for part in (info.get("size"), next(filter(None, changes), "")))


def known_identity(info: Mapping[str, Any]) -> str:
    """`identity_of`; empty if the entry lacks the size, or all that tells a change of equal size."""
    found = identity_of(info)
    return "" if found.startswith("None-") or found.endswith("-") else found


def write_json(url: str, content: Any) -> None:
    """Commit a JSON file. Secrets in its texts become `***`."""
    write_bytes(url, (redact(json.dumps(content, indent=2, ensure_ascii=False)) + "\n").encode())


def write_parquet(url: str, table: pa.Table) -> None:
    """Commit a Parquet file (zstd)."""
    write_bytes(url, parquet_bytes(table))


def parquet_bytes(table: pa.Table) -> bytes:
    """The content of a Parquet file (zstd)."""
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd")
    content: bytes = buffer.getvalue().to_pybytes()
    return content


def read_parquet_metadata(url: str) -> dict[bytes, bytes]:
    """The key-value metadata in the footer of a Parquet file."""
    fs, path = filesystem(url)
    if not is_local(url):
        try:
            footer: bytes = fs.cat_file(path, start=-_FOOTER_BYTES)
            return dict(pq.read_schema(pa.BufferReader(footer)).metadata or {})
        except pa.ArrowInvalid:
            pass  # a longer footer, or a damaged file: the next reader tells which
        except OSError as error:
            if error.errno != errno.EINVAL:  # S3 gives no range of an empty file
                raise
    with fs.open(path, "rb") as file:
        return dict(pq.read_schema(file).metadata or {})


def read_parquet(url: str, columns: list[str] | None = None) -> pa.Table:
    """A Parquet file, or only the named columns."""
    with open_whole(url) as file:
        return pq.read_table(file, columns=columns)


@contextlib.contextmanager
def open_whole(url: str) -> Iterator[Any]:
    """A file for reading by positions; a remote one is fetched by one request.

    For files of some MB. fsspec would ask for the size first, and read 50 MiB ahead of the first read.
    """
    if not is_local(url):
        yield pa.BufferReader(read_bytes(url))
        return
    fs, path = filesystem(url)
    with fs.open(path, "rb") as file:
        yield file


def copy_directory(source: str, target: str) -> None:
    """Copy every file below the local directory `source` to `target`, `*.json` last.

    A reader that waits for the JSON description finds the directory complete.
    """
    files = [path for path in sorted(Path(source).rglob("*")) if path.is_file()]
    for path in sorted(files, key=lambda path: path.suffix == ".json"):
        write_bytes(join(target, path.relative_to(source).as_posix()), path.read_bytes())


def iterate_lines(url: str, start: int = 0, block_bytes: int = 1 << 20) -> Iterator[tuple[int, bytes]]:
    """The lines of a file from byte `start`, as (byte offset, line without its line break)."""
    fs, path = filesystem(url)
    with fs.open(path, "rb", block_size=block_bytes) as file:
        file.seek(start)
        offset = start
        for line in file:
            yield offset, line.rstrip(b"\r\n")
            offset += len(line)


def check_seen(url: str, setting: str, node_count: int | None, shared_paths: Sequence[str]) -> None:
    """Refuse a local input or output that other nodes of the cluster may not see.

    Args:
        url: the path or URL. open_clip's mark of a local directory may stand before it.
        setting: its config key, for the message.
        node_count: nodes of the cluster. None: nodes will join, so their number is not known.
        shared_paths: local directories that the user declares to be on every node.

    Raises:
        UserError: it is a local path outside the shared ones, and there are several nodes, or will be.
    """
    path = Path(url.removeprefix("local-dir:").removeprefix("file://")).absolute()
    if node_count == 1 or not is_local(url) or any(path.is_relative_to(Path(root).absolute()) for root in shared_paths):
        return
    nodes = (
        "the cluster grows (ray.autoscaling) by nodes" if node_count is None else f"the cluster has {node_count} nodes"
    )
    raise UserError(
        f"{setting}: {url!r} is a local path, and {nodes} that may not see it. "
        "Give a URL (s3://...), or name a directory that all nodes share in ray.shared_paths"
    )


def check_output(url: str, setting: str, in_ray_job: bool, node_count: int | None, shared_paths: Sequence[str]) -> None:
    """Refuse an output location where results would be lost.

    Args:
        url: the output directory or URL.
        setting: its config key, for the message.
        in_ray_job: whether this process is the driver of a submitted Ray job.
        node_count: nodes of the cluster. None: nodes will join, so their number is not known.
        shared_paths: local directories that the user declares to be on every node.

    Raises:
        UserError: a relative path in a Ray job (lost with the job's package directory), a local path on several nodes
            outside the shared ones, or a file.
    """
    if is_local(url):
        path = url.removeprefix("file://")
        if in_ray_job and not Path(path).is_absolute():
            raise UserError(
                f"{setting}: {url!r} is a relative path; in a Ray job it would be lost with the job's package "
                "directory. Give an absolute path or a URL"
            )
        check_seen(url, setting, node_count, shared_paths)
    fs, path = filesystem(url)
    if fs.isfile(path):
        raise UserError(f"{setting}: {url!r} is a file; expected a directory")
