"""Names of shards: each file's path below the directory that its configured path gives.

Where two directories hold a file of one name, all names below them begin with the end of their directory's path: the
shortest one that tells them apart. So a dataset read alone has the plain names.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from laclip_ray.data.data_files import DataFile, FileTable
from laclip_ray.errors import UserError


def unique_names(files: Sequence[DataFile], setting: str) -> dict[str, DataFile]:
    """Name every file.

    Args:
        files: different files.
        setting: the config key of the data, for messages.

    Raises:
        UserError: directories of different stores have the same path, and a file of the same name.
    """
    counts = Counter(file.name for file in files)
    roots = {_directory(file) for file in files}
    clashing = {_directory(file) for file in files if counts[file.name] > 1}
    for prefixed in (clashing, roots):  # a longer name may be that of a file elsewhere
        for length in range(max((root.count("/") + 1 for root in prefixed), default=0) + 1):
            named = {_name(file, length if _directory(file) in prefixed else 0): file for file in files}
            if len(named) == len(files):
                return named
    name, _ = counts.most_common(1)[0]
    first, second, *_ = (file.url for file in files if file.name == name)
    raise UserError(f"{setting}.path: {first} and {second} would both be the shard {name!r}; rename a directory")


def named_in_order(files: FileTable, setting: str) -> Iterator[tuple[str, DataFile]]:
    """Files with their names, sorted by them; empties the table. Arguments and errors as in `unique_names`.

    The files of one directory are not held as objects. Those of several are, in about 1 KB each.
    """
    if files.is_of_one_directory and all(_clean(name) == name for name in files.names()):
        return ((file.name, file) for file in files.drained_by_name())
    return iter(sorted(unique_names(files, setting).items()))


def _directory(file: DataFile) -> str:
    """The root of a file's name with its store, as a path: `s3/bucket/images`."""
    protocol, found, _ = file.url.partition("://")
    return f"{protocol}/{file.root.strip('/')}" if found else file.root.strip("/")


def _name(file: DataFile, length: int) -> str:
    """The file's name after the last parts of its directory, this many."""
    parts = _directory(file).split("/")[-length:] if length else []
    return _clean("/".join([*parts, file.name]))


def _clean(name: str) -> str:
    """The name with escapes for bytes that are not UTF-8, which cannot be stored in the names of outputs."""
    return name if name.isascii() else name.encode("utf-8", "backslashreplace").decode()
