"""A labelled image, and the shard that holds it: the same for every layout."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from laclip_ray.data.records import Shard, UniqueIds, clean_id, id_text

Layout = Literal["webdataset", "folders", "parquet", "csv"]

_LONGEST_LABEL = 1_000
"""Characters of one label. Longer ones are cut; no class has such a name."""


@dataclass(frozen=True)
class LabelledImage:
    """An image of a labelled set, not decoded."""

    id: str
    """Unique in its shard."""
    image: bytes | None
    """The encoded image. None: the record has no usable one."""
    label: str
    """The raw label: a number, a name, or a JSON list of several. Empty if there is none. Always valid UTF-8."""
    problem: str = ""
    """Why there is no image, by the names in `data.records` and `data.image_formats`; empty if there is one."""


@dataclass(frozen=True)
class LabelledShard:
    """Images read together: a tar, some rows of a table, or some files of a directory.

    The fields decide what `read_labelled` gives. So equal shards give equal images, unless a table names image files:
    `identity` is the table's.
    """

    name: str
    """Unique in the split."""
    url: str
    """The file; of `folders`, the set's directory."""
    layout: Layout
    identity: str
    """Changes when the file, or one of the files, is replaced (`storage.identity`)."""
    start: int = 0
    """Tables: the first row."""
    stop: int | None = None
    """Tables: the row after the last one. None: unknown, or no table."""
    image_column: str = ""
    """Tables."""
    label_column: str = ""
    """Tables. WebDataset: the preferred member for the label, `cls` or `npy`."""
    split_column: str = ""
    """Tables: only rows with the value `split` here belong to the shard. Empty: all rows."""
    split: str = ""
    """Value of `split_column`. `folders`: the directory that the class directories lie in, or empty."""
    files: tuple[str, ...] = ()
    """`folders`: paths below `url`."""
    table: Shard | None = None
    """Tables: how the file is read."""

    @property
    def row_count(self) -> int | None:
        """Images of the whole shard. None: known when it is read."""
        if self.files:
            return len(self.files)
        return None if self.stop is None or self.split_column else self.stop - self.start


@dataclass(frozen=True)
class OpenedLayout:
    """The facts that a layout gives about a set."""

    splits: dict[str, list[LabelledShard]]
    class_names: list[list[str]] | None
    """The set's own, by label, from a file or the description of a column."""
    class_texts: tuple[str, ...] | None = None
    """The raw labels in the order of the classes, if labels are texts: directories or names. None: labels are numbers,
    or the names of classes."""


def with_unique_ids(images: Iterator[LabelledImage]) -> Iterator[LabelledImage]:
    """The same images; a repeated id gets a number: `id#2`."""
    ids = UniqueIds()
    for image in images:
        yield replace(image, id=ids.unique(image.id))


def label_text(value: Any) -> str:
    """The raw label of a value: whole numbers without a point, JSON for a list, empty for null and NaN. Valid UTF-8.

    >>> label_text(3.0), label_text(" cat "), label_text([1, 4]), label_text(None), label_text(True)
    ('3', 'cat', '[1, 4]', '', '1')
    """
    if isinstance(value, list | tuple):
        return json.dumps([_plain(item) for item in value])
    plain = _plain(value)
    return "" if plain is None else str(plain).strip()[:_LONGEST_LABEL]


def _plain(value: Any) -> int | float | str | None:
    """A value that JSON has."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int):
        return value
    text = id_text(value)
    return None if text is None else clean_id(text.strip()[:_LONGEST_LABEL])
