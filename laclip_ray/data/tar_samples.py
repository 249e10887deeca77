"""The samples of a group of tar members: their ids, captions and problems."""

import codecs
from collections.abc import Iterator, Mapping
from typing import Any

from laclip_ray.config import DataConfig
from laclip_ray.data.records import (
    CAPTION_MISSING,
    ID_MISSING,
    IMAGE_MISSING,
    MEMBER_TOO_LARGE,
    Sample,
    clean_caption,
    clean_id,
    id_text,
    number_id,
    parse_json,
    select_captions,
)
from laclip_ray.data.tar_groups import Group

Fields = Mapping[str, Any]
"""The fields of a json member by name."""

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, which begins the same way
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_FIRST_BYTES_OF_MARKS = b"\xef\xff\xfe\x00"


def samples_of_group(row: int, group: Group, fields: Fields, data: DataConfig) -> Iterator[Sample]:
    """The samples of a group: one for each caption of a list with `data.captions: all`.

    Args:
        row: the number of the first one.
        group: the members.
        fields: of the json member.
        data: names the fields that hold the caption and the id.
    """
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


def _caption_values(group: Group, fields: Fields, data: DataConfig) -> Any:
    if "txt" in group.members:
        return (as_utf8(group.members["txt"]),)
    return select_captions(fields.get(data.caption_column), data.captions)


def json_fields(group: Group) -> Fields:
    """The fields of a group's json member; empty without one that can be read."""
    content = as_utf8(group.members.get("json"))
    fields = parse_json(content) if content else None
    return fields if isinstance(fields, Mapping) else {}


def _id(group: Group, fields: Fields, data: DataConfig) -> tuple[str, tuple[str, ...]]:
    """The id of a group, and a note if the configured field is missing."""
    if not data.id_column:
        return group.key, ()
    text = id_text(fields.get(data.id_column))
    return (clean_id(text), ()) if text is not None else (group.key, (ID_MISSING,))


def as_utf8(content: bytes | None) -> bytes | None:
    """The text of a member without its byte order mark, which may say that it is UTF-16 or UTF-32."""
    if content and content[0] in _FIRST_BYTES_OF_MARKS:
        for mark, encoding in _BYTE_ORDER_MARKS:
            if content.startswith(mark):
                text = content.removeprefix(mark)
                return text if encoding == "utf-8" else text.decode(encoding, "replace").encode()
    return content
