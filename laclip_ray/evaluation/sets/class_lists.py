"""Lists of class names: open_clip's for ImageNet, and files."""

from collections.abc import Sequence
from typing import Any

from laclip_ray.errors import UserError
from laclip_ray.evaluation.sets.text_lists import read_list

IMAGENET = "imagenet"
"""Names open_clip's list for the 1,000 classes of ImageNet, in the order of their WordNet ids. The paper's code has the
same names."""

NAMED_CLASS_LISTS = (IMAGENET,)


def load_class_names(spec: str, where: str) -> list[list[str]]:
    """The names of each class; a name may be empty.

    Args:
        spec: `imagenet`; a file with a class a line, several names of a class separated by tabs; or a JSON file
            (`FILE.json`, `FILE.json#KEY`) with a list of names, each a text or a list of texts.
        where: the setting, begins a message.

    Raises:
        UserError: there is no such list.
    """
    if spec == IMAGENET:
        from laclip_ray.light_open_clip import open_clip

        return [[name] for name in open_clip.IMAGENET_CLASSNAMES]
    return [
        _names(entry, number, spec, where) for number, entry in enumerate(read_list(spec, where, NAMED_CLASS_LISTS))
    ]


def _names(entry: Any, number: int, spec: str, where: str) -> list[str]:
    """The names of one class. Of several, empty ones are left out."""
    parts: Sequence[Any] = entry.split("\t") if isinstance(entry, str) else entry
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise UserError(f"{where}: {spec}: entry {number} is {entry!r:.100}; a class is a name or a list of names")
    return [part.strip() for part in parts if part.strip()] or [""]
