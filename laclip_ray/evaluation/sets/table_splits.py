"""Which files of a table hold which split, by their names."""

import re
from collections.abc import Collection, Sequence

from laclip_ray.data.file_formats import kind_of
from laclip_ray.errors import UserError
from laclip_ray.evaluation.sets.set_files import list_names

_KNOWN_SPLITS = ("train", "training", "test", "val", "valid", "validation", "dev")
"""Further names that tell the split of a file."""


def files_by_split(names: Collection[str], splits: Sequence[str], where: str) -> dict[str, list[str]]:
    """The files of each split, sorted; empty if no name tells a split.

    Args:
        names: paths of the files, below the set's directory.
        splits: the splits to read.
        where: begins a message.

    Raises:
        UserError: files of some splits exist, but not of a wanted one.
    """
    found = {split: sorted(name for name in names if split_of_name(name, splits) == split) for split in splits}
    if not any(found.values()) and not any(split_of_name(name, _KNOWN_SPLITS) for name in names):
        return {}
    for split, of_split in found.items():
        if not of_split:
            raise UserError(
                f"{where}: no file is named by the split {split!r} ({example_names(split)}); there are "
                f"{list_names(names)}. Set split, or path to one of the files"
            )
    return found


def example_names(split: str) -> str:
    """Names that files of a split may have, for messages."""
    return f"{split}-00000-of-00001.parquet, {split}.csv, {split}/0000.parquet"


def split_of_name(name: str, splits: Sequence[str]) -> str | None:
    """The split that a file's name tells, or else the directory nearest to it.

    >>> split_of_name("data/test-00000-of-00002.parquet", ["train", "test"])
    'test'
    >>> split_of_name("train/0.parquet", ["train", "test"]), split_of_name("train_small.csv", ["train"])
    ('train', None)
    """
    for part in reversed(kind_of(name).stem.split("/")):
        for split in splits:
            if re.fullmatch(rf"{re.escape(split)}(?:[-._]\d.*)?", part):
                return split
    return None
