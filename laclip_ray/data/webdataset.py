"""The WebDataset reader: a shard is a tar, and a sample is the members that share a key (`tar_groups`)."""

import codecs
from collections.abc import Iterator, Mapping
from typing import Any

from laclip_ray import storage
from laclip_ray.config import DataConfig
from laclip_ray.data.byte_sources import DamagedError
from laclip_ray.data.records import (
    CAPTION_MISSING,
    ID_MISSING,
    IMAGE_MISSING,
    MEMBER_TOO_LARGE,
    SHARD_TRUNCATED,
    Sample,
    Shard,
    ShardUnreadableError,
    clean_caption,
    clean_id,
    id_text,
    number_id,
    parse_json,
    select_captions,
)
from laclip_ray.data.tar_groups import IMAGE_MEMBERS, MAX_OTHER_BYTES, Group, Reading, read_groups
from laclip_ray.data.tars import NotATarError, TarReader

__all__ = ["IMAGE_MEMBERS", "read_webdataset", "tar_groups"]

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, which begins the same way
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_FIRST_BYTES_OF_MARKS = b"\xef\xff\xfe\x00"


def read_webdataset(shard: Shard, data: DataConfig, with_images: bool) -> Iterator[Sample]:
    """Read the samples of a shard in the file's order; a truncated tar ends with a row that reports it.

    Raises:
        ShardUnreadableError: the file is not a tar.
    """
    row = 0
    fs, path = storage.filesystem(shard.url)
    reading = Reading(with_images, max_image_bytes=data.max_image_bytes)
    with fs.open(path, "rb") as file:
        try:
            for group in read_groups(file, reading):
                for sample in _to_samples(row, group, data):
                    yield sample
                    row += 1
        except NotATarError as error:
            raise ShardUnreadableError(f"{shard.url} is {error}") from error
        except DamagedError:
            yield Sample(row, f"{shard.name}#end", "", None, (SHARD_TRUNCATED,))


def find_defect(url: str) -> str:
    """Why a file is not a tar, as a message; empty if it begins like one.

    Raises:
        OSError: the storage failed.
    """
    fs, path = storage.filesystem(url)
    with fs.open(path, "rb") as file:
        try:
            TarReader(file)
        except NotATarError as error:
            return f"{url} is {error}"
    return ""


def tar_groups(file: Any, with_images: bool) -> Iterator[tuple[str, dict[str, bytes | None]]]:
    """The samples of a WebDataset tar: for each, its key and the content of its members by extension.

    Members without a usable content are left out: links to nothing, and texts or others of a hostile size.

    Args:
        file: the tar, open for reading.
        with_images: whether to read image members. If not, their content is None.

    Raises:
        tarfile.TarError: the file is not a tar, or is truncated. All whole samples are yielded before.
    """
    for group in read_groups(file, Reading(with_images, others=True, max_image_bytes=MAX_OTHER_BYTES)):
        yield group.key, {name: content for name, content in group.members.items() if name not in group.problems}


def _to_samples(row: int, group: Group, data: DataConfig) -> Iterator[Sample]:
    """The samples of a group: one for each caption of a list with `data.captions: all`."""
    fields = _json_fields(group)
    sample_id, problems = _id(group, fields, data)
    image = group.members[group.image] if group.image is not None else None
    if group.image is None:
        problems = (*problems, IMAGE_MISSING)
    elif group.image in group.problems:
        problems = (*problems, group.problems[group.image])
    for number, value in enumerate(_caption_values(group, fields, data)):
        caption, caption_problems = clean_caption(value)
        if CAPTION_MISSING in caption_problems and MEMBER_TOO_LARGE in group.problems.values():
            caption_problems = (MEMBER_TOO_LARGE,)
        yield Sample(row + number, number_id(sample_id, number), caption, image, (*caption_problems, *problems), number)


def _caption_values(group: Group, fields: Mapping[str, Any], data: DataConfig) -> Any:
    if "txt" in group.members:
        return (_as_utf8(group.members["txt"]),)
    return select_captions(fields.get(data.caption_column), data.captions)


def _json_fields(group: Group) -> Mapping[str, Any]:
    content = _as_utf8(group.members.get("json"))
    fields = parse_json(content) if content else None
    return fields if isinstance(fields, Mapping) else {}


def _id(group: Group, fields: Mapping[str, Any], data: DataConfig) -> tuple[str, tuple[str, ...]]:
    """The id of a group, and a note if the configured field is missing."""
    if not data.id_column:
        return group.key, ()
    text = id_text(fields.get(data.id_column))
    return (clean_id(text), ()) if text is not None else (group.key, (ID_MISSING,))


def _as_utf8(content: bytes | None) -> bytes | None:
    """The text of a member without its byte order mark, which may say that it is UTF-16 or UTF-32."""
    if content and content[0] in _FIRST_BYTES_OF_MARKS:
        for mark, encoding in _BYTE_ORDER_MARKS:
            if content.startswith(mark):
                text = content.removeprefix(mark)
                return text if encoding == "utf-8" else text.decode(encoding, "replace").encode()
    return content
