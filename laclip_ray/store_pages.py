"""List a store page by page: a listing of any length takes the memory of one page.

`find` of s3fs keeps every entry that it has listed, about 3 KB each, in its cache and in its result.

Not covered: file systems other than s3fs. They are listed by `find`, which holds all entries.
"""

import datetime
import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

Entry = tuple[str, Mapping[str, Any]]
"""The path of a file in its file system, and fsspec's entry of it or the part that `storage.identity_of` reads."""


def iterate_files(fs: Any, path: str, levels: int | None = None) -> Iterator[Entry]:
    """Every file below a directory; a missing directory has no files.

    Args:
        fs: an fsspec file system.
        path: the directory, in the file system.
        levels: how deep files may lie; 1 are the files in the directory. None: at any depth.

    Raises:
        OSError: the store failed, or refused access.
    """
    fs.invalidate_cache()
    if "s3" in fs.protocol and not getattr(fs, "version_aware", True) and fs.split_path(path)[0]:
        yield from _iterate_s3(fs, path, levels)
    else:
        yield from fs.find(path, maxdepth=levels, detail=True).items()


def _iterate_s3(fs: Any, path: str, levels: int | None) -> Iterator[Entry]:
    bucket, key, _ = fs.split_path(path)
    request = {"Bucket": bucket, "Prefix": f"{key.rstrip('/')}/" if key.strip("/") else "", **fs.req_kw}
    if levels is not None:
        request["Delimiter"] = "/"
    directories: list[str] = []
    if fs.s3 is not None:  # connects, which makes the session
        _read_times_fast(fs)
    while True:
        page = fs.call_s3("list_objects_v2", **request)
        for entry in page.get("Contents", ()):
            yield f"{bucket}/{entry['Key']}", {"size": entry["Size"], **entry}
        directories += [prefix["Prefix"] for prefix in page.get("CommonPrefixes", ())]
        if not page.get("IsTruncated"):
            break
        request["ContinuationToken"] = page["NextContinuationToken"]
    if levels is not None and levels > 1:
        for directory in directories:
            yield from _iterate_s3(fs, posixpath.join(bucket, directory.rstrip("/")), levels - 1)


def _read_times_fast(fs: Any) -> None:
    """Read the times of entries with the standard library. botocore's own way takes more than half of a listing."""
    factory = fs.session.get_component("response_parser_factory")
    factory.set_parser_defaults(timestamp_parser=_parse_time)


def _parse_time(text: Any) -> datetime.datetime:
    from botocore.utils import parse_timestamp

    try:
        time = datetime.datetime.fromisoformat(text)
    except (ValueError, TypeError):
        return parse_timestamp(text)  # type: ignore[no-any-return]
    return parse_timestamp(text) if time.tzinfo is None else time
