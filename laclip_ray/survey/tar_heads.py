"""The members of tars that hold captions and pictures, before a config names any."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from laclip_ray import storage
from laclip_ray.data.byte_sources import DamagedError
from laclip_ray.data.tar_groups import Reading, read_groups
from laclip_ray.data.tar_samples import json_fields
from laclip_ray.data.tars import NotATarError
from laclip_ray.errors import UserError
from laclip_ray.survey.columns import Choice, Columns, Kind, choose_columns
from laclip_ray.survey.table_heads import columns_of
from laclip_ray.tally import first_names

TXT = "txt"
"""Name of a caption that is a member of its own."""
_GROUPS = 64
"""Samples of a tar that show its members."""


def columns_of_tars(urls: Sequence[str]) -> Columns:
    """The members that the first and the last tar use, as columns.

    Returns:
        The caption is `TXT`, or a field of the json members. The image is named by its extension.

    Raises:
        UserError: there are no captions.
        OSError: the storage failed.
    """
    images: Counter[str] = Counter()
    fields: list[Mapping[str, Any]] = []
    extensions: Counter[str] = Counter()
    groups = 0
    for url in dict.fromkeys((urls[0], urls[-1])):
        fs, path = storage.filesystem(url)
        with fs.open(path, "rb") as file:
            try:
                for group in islice(read_groups(file, Reading(images=False)), _GROUPS):
                    groups += 1
                    extensions.update(group.members.keys())
                    images.update([group.image] if group.image else [])
                    fields.append(json_fields(group))
            except (DamagedError, NotATarError):
                continue
    image = None
    if images:
        (best, _), *others = images.most_common()
        image = Choice(best, Kind.IMAGES, f"it holds {Kind.IMAGES}", tuple(name for name, _ in others))
    found = [row for row in fields if row]
    in_json = choose_columns(columns_of(found, urls[0])).caption if found else None
    if 2 * extensions[TXT] >= groups > 0:
        alternatives = (f"json:{in_json.name}",) if in_json is not None else ()
        return Columns(Choice(TXT, Kind.TEXTS, "txt members are captions", alternatives), image, None)
    if in_json is None:
        members = first_names(name for name, _ in extensions.most_common()) or "none that can be read"
        raise UserError(
            f"data.path: the tars have no captions (members: {members}); a caption is a txt member, or a field of a "
            "json member, beside its picture. Sets with class labels (cls) go to evaluate.labelled"
        )
    return Columns(in_json, image, None)
