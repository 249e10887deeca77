"""All file access: local paths and any fsspec URL, whole-file commits, and checks of where a run may write.

Guarantees: a file written here is visible only when it is whole (locally written aside and renamed, on an object
store one put). Readers never see a part of one.

Not covered: concurrent writers of one file; the last one wins.
"""

import contextlib
import json
import posixpath
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from laclip_ray.errors import UserError

ASIDE_MARK = ".tmp-"
"""In the name of every file that is still being written; readers leave such files out."""


def is_local(url: str) -> bool:
    """Whether `url` is a path on this machine's file system."""
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
    """What Ray's `storage_filesystem` and `storage_path` take for `url`: None and an absolute path if it is local."""
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
    """Every whole file below the directory `url`, sorted; empty where there is no such directory."""
    fs, path = filesystem(url)
    fs.invalidate_cache()
    return sorted(fs.unstrip_protocol(found) if not is_local(url) else found for found in fs.find(path)
                  if ASIDE_MARK not in name_of(found))  # fmt: skip


def list_directories(url: str) -> list[str]:
    """The names of the directories in the directory `url`; empty where there is no such directory."""
    fs, path = filesystem(url)
    fs.invalidate_cache()
    try:
        return sorted(name_of(info["name"]) for info in fs.ls(path, detail=True) if info["type"] == "directory")
    except FileNotFoundError:
        return []


def expand(url: str) -> list[str]:
    """The files that `url` names: itself, the files of a directory, or the matches of a glob; sorted."""
    fs, path = filesystem(url)
    if any(mark in path for mark in "*?["):
        found = [each for each, info in fs.glob(path, detail=True).items()
                 if info["type"] != "directory" and ASIDE_MARK not in name_of(each)]  # fmt: skip
        return sorted(fs.unstrip_protocol(each) if not is_local(url) else each for each in found)
    if fs.isdir(path):
        return list_files(url)
    return [url if not is_local(url) else path] if fs.exists(path) else []


def read_bytes(url: str) -> bytes:
    """The whole content of a file."""
    fs, path = filesystem(url)
    content: bytes = fs.cat_file(path)
    return content


def read_json(url: str) -> Any:
    """The content of a JSON file."""
    return json.loads(read_bytes(url))


def write_bytes(url: str, content: bytes) -> None:
    """Commit a whole file; directories are made as needed."""
    fs, path = filesystem(url)
    if not is_local(url):
        fs.pipe_file(path, content)
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f"{target.name}{ASIDE_MARK}{uuid.uuid4().hex}")
    try:
        aside.write_bytes(content)
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


def remove(url: str) -> None:
    """Remove a file, if there is one."""
    fs, path = filesystem(url)
    with contextlib.suppress(FileNotFoundError):
        fs.rm_file(path)


def identity(url: str) -> str:
    """What tells a file from its replacement: its size, and its etag or time of change where the storage has one.

    Another identity does not mean other content (a copy has a new time); an equal one is taken for the same file.
    """
    fs, path = filesystem(url)
    info = fs.info(path)
    known = (info.get(key) for key in ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified"))
    return "-".join(str(part).strip('"') for part in (info.get("size"), next(filter(None, known), "")))


def write_json(url: str, content: Any) -> None:
    """Commit a JSON file."""
    write_bytes(url, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def write_parquet(url: str, table: pa.Table) -> None:
    """Commit a Parquet file (zstd)."""
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd")
    write_bytes(url, buffer.getvalue().to_pybytes())


def read_parquet_metadata(url: str) -> dict[bytes, bytes]:
    """The key-value metadata in a Parquet file's footer."""
    fs, path = filesystem(url)
    with fs.open(path, "rb") as file:
        return dict(pq.read_schema(file).metadata or {})


def read_parquet(url: str, columns: list[str] | None = None) -> pa.Table:
    """A whole Parquet file, or the named columns of it."""
    fs, path = filesystem(url)
    with fs.open(path, "rb") as file:
        return pq.read_table(file, columns=columns)


def copy_directory(source: str, target: str) -> None:
    """Copy every file below the local directory `source` to `target`, `*.json` last.

    A reader that waits for a directory's JSON description finds the rest already there.
    """
    files = [path for path in sorted(Path(source).rglob("*")) if path.is_file()]
    for path in sorted(files, key=lambda path: path.suffix == ".json"):
        write_bytes(join(target, path.relative_to(source).as_posix()), path.read_bytes())


def iterate_lines(url: str, start: int = 0, block_bytes: int = 1 << 20) -> Iterator[tuple[int, bytes]]:
    """The lines of a file from byte `start`, each with its byte offset and without its line break."""
    fs, path = filesystem(url)
    with fs.open(path, "rb", block_size=block_bytes) as file:
        file.seek(start)
        offset = start
        for line in file:
            yield offset, line.rstrip(b"\r\n")
            offset += len(line)


def check_output(url: str, setting: str, in_ray_job: bool, node_count: int, shared_paths: list[str]) -> None:
    """Refuse a place for output that would lose it.

    Args:
        url: the directory or URL that is written to.
        setting: the config key it comes from, for the message.
        in_ray_job: whether this process is the driver of a submitted Ray job.
        node_count: nodes of the cluster.
        shared_paths: local directories that the user declares to be on every node.

    Raises:
        UserError: a relative path in a Ray job (it would go with the job's package directory), a local path on
            several nodes that is not below a shared one, or a place that is a file.
    """
    if is_local(url):
        path = url.removeprefix("file://")
        if in_ray_job and not Path(path).is_absolute():
            raise UserError(
                f"{setting}: {url!r} is a relative path; in a Ray job it would be lost with the job's package "
                "directory. Give an absolute path or a URL"
            )
        shared = any(Path(path).absolute().is_relative_to(Path(root).absolute()) for root in shared_paths)
        if node_count > 1 and not shared:
            raise UserError(
                f"{setting}: {url!r} is a local path, and the cluster has {node_count} nodes that may not see it. "
                "Give a URL (s3://...), or name a directory that all nodes share in ray.shared_paths"
            )
    fs, path = filesystem(url)
    if fs.isfile(path):
        raise UserError(f"{setting}: {url!r} is a file; expected a directory")
