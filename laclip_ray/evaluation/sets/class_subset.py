"""Subsets of ImageNet's 1,000 classes, by WordNet id: for ImageNet-A, ImageNet-R and ObjectNet.

A file has a class a line: its WordNet id, or several where one class stands for several of ImageNet. A text before the
ids is the label that the set's images have (`alarm_clock n02708093 n03196217`). Lines that begin with `#` are comments.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from laclip_ray.data.hub_addresses import resolve_hub_address
from laclip_ray.errors import UserError
from laclip_ray.evaluation.sets.text_lists import read_lines
from laclip_ray.tally import first_names

IMAGENET_CLASSES = 1_000

_WORDNET_ID = re.compile(r"n\d{8}")


@cache
def imagenet_ids() -> tuple[str, ...]:
    """The WordNet ids of ImageNet's 1,000 classes, in their order, which is the sorted one. From timm."""
    from timm.data import ImageNetInfo

    ids = tuple(ImageNetInfo("imagenet-1k").label_names())
    assert len(ids) == IMAGENET_CLASSES
    assert list(ids) == sorted(ids)
    return ids


def is_wordnet_id(text: str) -> bool:
    """Whether a text has the form of a WordNet id.

    >>> is_wordnet_id("n01440764"), is_wordnet_id("tench")
    (True, False)
    """
    return _WORDNET_ID.fullmatch(text) is not None


@dataclass(frozen=True)
class ClassSubset:
    """Some classes of ImageNet, in the order of a file."""

    ids: tuple[tuple[str, ...], ...]
    """Of each class."""
    texts: tuple[str, ...]
    """The label that images of each class have beside its number and ids; may be empty."""

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def label_of_text(self) -> dict[str, int]:
        """The place of each id and text."""
        of_ids = {wordnet_id: label for label, ids in enumerate(self.ids) for wordnet_id in ids}
        return of_ids | {text: label for label, text in enumerate(self.texts) if text}

    def select(self, names: Sequence[Sequence[str]]) -> list[list[str]]:
        """The names of the classes, of several ids one after another.

        Args:
            names: of ImageNet's 1,000 classes.
        """
        place = {wordnet_id: number for number, wordnet_id in enumerate(imagenet_ids())}
        return [[name for wordnet_id in ids for name in names[place[wordnet_id]]] for ids in self.ids]


def read_class_subset(path: str, where: str) -> ClassSubset:
    """Read a file of WordNet ids.

    Args:
        path: the file.
        where: the setting, begins a message.

    Raises:
        UserError: the file is missing, a line has no id of ImageNet, or an id or text occurs twice.
    """
    known = frozenset(imagenet_ids())
    url = resolve_hub_address(path)
    classes: list[tuple[str, ...]] = []
    texts: list[str] = []
    for number, line in enumerate(read_lines(url, where), 1):
        if line.startswith("#"):
            continue
        first, *others = line.split() or [""]
        ids = [first, *others] if is_wordnet_id(first) else others
        if not ids or not all(map(is_wordnet_id, ids)):
            raise UserError(
                f"{where}: line {number} of {url} is {line[:100]!r}; expected a WordNet id, such as n01440764"
            )
        if unknown := [wordnet_id for wordnet_id in ids if wordnet_id not in known]:
            raise UserError(
                f"{where}: line {number} of {url}: {unknown[0]} is none of ImageNet's {IMAGENET_CLASSES:,} classes"
            )
        classes.append(tuple(ids))
        texts.append("" if is_wordnet_id(first) else first)
    if not classes:
        raise UserError(f"{where}: {url} names no classes")
    everything = [*(wordnet_id for ids in classes for wordnet_id in ids), *filter(None, texts)]
    if repeated := sorted({text for text in everything if everything.count(text) > 1}):
        raise UserError(f"{where}: {url} names {first_names(repeated)} more than once; a class has one line")
    return ClassSubset(tuple(classes), tuple(texts))
