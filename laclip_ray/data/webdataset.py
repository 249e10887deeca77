"""The WebDataset reader: tars of samples."""

import posixpath
import tarfile
from collections.abc import Iterator, Mapping
from typing import Any

from laclip_ray import storage
from laclip_ray.config import DataConfig
from laclip_ray.data.records import IMAGE_MISSING, SHARD_TRUNCATED, Sample, Shard, caption_of, clean_id, parse_json

IMAGE_MEMBERS = ("jpg", "jpeg", "png", "webp")


def read_webdataset(shard: Shard, data: DataConfig, with_images: bool) -> Iterator[Sample]:
    row = 0
    fs, path = storage.filesystem(shard.url)
    with fs.open(path, "rb") as file:
        groups = tar_groups(file, with_images)
        try:
            for key, members in groups:
                yield _webdataset_sample(row, key, members, data, with_images)
                row += 1
        except (tarfile.TarError, EOFError):
            yield Sample(row, f"{shard.name}#end", "", None, (SHARD_TRUNCATED,))


def tar_groups(file: Any, with_images: bool) -> Iterator[tuple[str, dict[str, bytes | None]]]:
    """The samples of a WebDataset tar: a key, and by extension the members that consecutively have it.

    A member name that repeats starts a new sample (a duplicate id). Without images, their members are None.

    Raises:
        tarfile.TarError: the tar ends in the middle, or is none; what it holds before was given.
    """
    current: str | None = None
    members: dict[str, bytes | None] = {}
    counting: Any = _Counting(file)  # all of a file that tarfile uses
    with tarfile.open(fileobj=counting, mode="r:*") as tar:
        while (member := tar.next()) is not None:
            vars(tar)["members"].clear()  # tarfile keeps a kilobyte of each, to find them again
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
                members[extension] = _content(tar, member)
            else:
                members[extension] = None
        # tarfile takes a cut in a header, or a damaged one, for the end; the true end is a block of zeros.
        assert tar.fileobj is not None
        tar.fileobj.seek(tar.offset)
        whole = tar.fileobj.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)
    if current is not None:
        yield current, members
    if not whole:
        raise tarfile.ReadError("no end-of-archive mark")


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """A member's bytes; as `extractfile` gives them, without a file object for each."""
    if member.issparse():
        file = tar.extractfile(member)
        return file.read() if file is not None else b""
    assert tar.fileobj is not None
    tar.fileobj.seek(member.offset_data)
    content = tar.fileobj.read(member.size)
    if len(content) < member.size:
        raise tarfile.ReadError("unexpected end of data")
    return content


class _Counting:
    """A file that knows its position without asking the system, as tarfile does six times a sample."""

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


def _webdataset_sample(
    row: int, key: str, members: dict[str, bytes | None], data: DataConfig, with_images: bool
) -> Sample:
    described = members.get("json")
    fields = parse_json(described) if described else None
    fields = fields if isinstance(fields, Mapping) else {}
    caption, problems = caption_of(members.get("txt", fields.get(data.caption_column)))
    image_member = next((name for name in IMAGE_MEMBERS if name in members), None)
    if image_member is None:
        problems = (*problems, IMAGE_MISSING)
    image = members[image_member] if image_member and with_images else None
    configured = fields.get(data.id_column) if data.id_column else None
    return Sample(row, clean_id(str(configured)) if configured is not None else key, caption, image, problems)
