"""The WebDataset reader: a shard is a tar, and a sample is the members that share a key."""

import posixpath
import tarfile
from collections.abc import Iterator, Mapping
from typing import Any

from laclip_ray import storage
from laclip_ray.config import DataConfig
from laclip_ray.data.records import IMAGE_MISSING, SHARD_TRUNCATED, Sample, Shard, clean_caption, clean_id, parse_json

IMAGE_MEMBERS = ("jpg", "jpeg", "png", "webp")
"""Extensions of image members; a sample with several uses the first of these."""


def read_webdataset(shard: Shard, data: DataConfig, with_images: bool) -> Iterator[Sample]:
    """Read the samples of a shard in the file's order; a truncated tar ends with a row that reports it."""
    row = 0
    fs, path = storage.filesystem(shard.url)
    with fs.open(path, "rb") as file:
        groups = tar_groups(file, with_images)
        try:
            for key, members in groups:
                yield _to_sample(row, key, members, data)
                row += 1
        except (tarfile.TarError, EOFError):
            yield Sample(row, f"{shard.name}#end", "", None, (SHARD_TRUNCATED,))


def tar_groups(file: Any, with_images: bool) -> Iterator[tuple[str, dict[str, bytes | None]]]:
    """The samples of a WebDataset tar: for each, its key and its members by extension.

    Consecutive members with one key are a sample. A repeated extension starts a new sample, with a duplicate key.

    Args:
        file: the tar, open for reading.
        with_images: whether to read image members. If not, their content is None.

    Raises:
        tarfile.TarError: the file is not a tar, or is truncated. All whole samples are yielded before.
    """
    current: str | None = None
    members: dict[str, bytes | None] = {}
    tracked: Any = _PositionTracker(file)  # has the methods that tarfile calls
    with tarfile.open(fileobj=tracked, mode="r:*") as tar:
        while (member := tar.next()) is not None:
            vars(tar)["members"].clear()  # tarfile keeps 1 KB per member for random access
            if not member.isfile():
                continue
            directory, name = posixpath.split(clean_id(member.name))
            stem, _, extension = name.partition(".")
            if not stem or not extension:
                continue
            key = posixpath.join(directory, stem)
            extension = extension.lower()
            if current is not None and (key != current or extension in members):
                yield current, members
                members = {}
            current = key
            if with_images or extension not in IMAGE_MEMBERS:
                members[extension] = _read_member(tar, member)
            else:
                members[extension] = None
        # tarfile mistakes a truncated or damaged header for the end of the tar. The true end is a block of zeros.
        assert tar.fileobj is not None
        tar.fileobj.seek(tar.offset)
        is_whole = tar.fileobj.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)
    if current is not None:
        yield current, members
    if not is_whole:
        raise tarfile.ReadError("no end-of-archive mark")


def _read_member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """A member's bytes. Faster than `extractfile`, which creates a file object per member."""
    if member.issparse():
        file = tar.extractfile(member)
        return file.read() if file is not None else b""
    assert tar.fileobj is not None
    tar.fileobj.seek(member.offset_data)
    content = tar.fileobj.read(member.size)
    if len(content) < member.size:
        raise tarfile.ReadError("unexpected end of data")
    return content


class _PositionTracker:
    """Keeps a file's position, which tarfile requests six times per sample, to avoid system calls."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._position: int = file.tell()

    def tell(self) -> int:
        return self._position

    def seekable(self) -> bool:
        return True

    def seek(self, position: int) -> int:
        if position != self._position:
            self._file.seek(position)
            self._position = position
        return self._position

    def read(self, size: int = -1) -> bytes:
        content: bytes = self._file.read(size)
        self._position += len(content)
        return content


def _to_sample(row: int, key: str, members: Mapping[str, bytes | None], data: DataConfig) -> Sample:
    raw_json = members.get("json")
    fields = parse_json(raw_json) if raw_json else None
    fields = fields if isinstance(fields, Mapping) else {}
    caption, problems = clean_caption(members.get("txt", fields.get(data.caption_column)))
    image_member = next((name for name in IMAGE_MEMBERS if name in members), None)
    if image_member is None:
        problems = (*problems, IMAGE_MISSING)
    image = members[image_member] if image_member is not None else None
    configured = fields.get(data.id_column) if data.id_column else None
    return Sample(row, clean_id(str(configured)) if configured is not None else key, caption, image, problems)
