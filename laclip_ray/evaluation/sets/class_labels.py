"""The classes of a set, and which class a raw label means: by number, name, directory or WordNet id."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from laclip_ray.errors import UserError
from laclip_ray.evaluation.sets.class_subset import (
    IMAGENET_CLASSES,
    ClassSubset,
    imagenet_ids,
    is_wordnet_id,
)
from laclip_ray.tally import first_names

ELSEWHERE = -1
"""In place of a label: the image's class is none of the chosen ones, so the image does not belong to the set."""

_REMEDY = "set class_names to imagenet, or to a file with a class a line"


@dataclass(frozen=True)
class ClassLabels:
    """Classes, and the label that each raw label means, or `ELSEWHERE`."""

    names: list[list[str]]
    label_of_text: Mapping[str, int] = field(default_factory=dict)
    label_of_number: Sequence[int] = ()
    """Empty: labels are texts, also if they look like numbers."""


def class_labels(
    given: list[list[str]] | None,
    own: list[list[str]] | None,
    class_texts: Sequence[str] | None,
    subset: ClassSubset | None,
    where: str,
) -> ClassLabels:
    """Settle the classes of a set.

    Args:
        given: the configured class names.
        own: the set's own class names, from a file or the description of a column.
        class_texts: the raw labels in the order of the set's classes, if labels are texts (directories, names). Without
            `given` and `own`, they are the names.
        subset: the configured classes.
        where: begins a message.

    Raises:
        UserError: there are no names, or not as many as classes.
    """
    if subset is not None:
        return _of_subset(given, own, class_texts, subset, where)
    names = given if given is not None else own
    if class_texts is not None:
        if names is None:
            of_texts = [[text.replace("_", " ")] for text in class_texts]
            return ClassLabels(of_texts, {text: label for label, text in enumerate(class_texts)})
        return ClassLabels(names, _labels_of_texts(names, class_texts, where))
    assert names is not None, "a set without class names was opened"
    texts = _unique_names(names)
    if len(names) == IMAGENET_CLASSES and given is not None:
        texts = {wordnet_id: label for label, wordnet_id in enumerate(imagenet_ids())} | texts
    return ClassLabels(names, texts, range(len(names)))


def _labels_of_texts(names: Sequence[Sequence[str]], class_texts: Sequence[str], where: str) -> dict[str, int]:
    """The label of each text: by WordNet id, by name, or by its place."""
    if len(names) == IMAGENET_CLASSES and _are_imagenet_ids(class_texts):
        place = {wordnet_id: label for label, wordnet_id in enumerate(imagenet_ids())}
        return {text: place[text] for text in class_texts}
    by_place = {text: label for label, text in enumerate(class_texts)}
    by_name = {text: label for text, label in _unique_names(names).items() if text in by_place}
    if len(by_name) == len(by_place):
        return by_name
    if len(class_texts) != len(names):
        raise UserError(
            f"{where}: there are {len(names):,} class names, and the set has {len(class_texts):,} classes "
            f"({first_names(class_texts)}); give class_names one line for each, in this order"
        )
    for text, label in by_name.items():
        if by_place[text] != label:
            raise UserError(
                f"{where}: {text!r} is class {by_place[text]} of the set in the order of its labels, and class {label} "
                "by its name; give class_names in the order of the labels"
            )
    return by_place


def _of_subset(
    given: list[list[str]] | None,
    own: list[list[str]] | None,
    class_texts: Sequence[str] | None,
    subset: ClassSubset,
    where: str,
) -> ClassLabels:
    names = _names_of_subset(given, own, subset, where)
    elsewhere = dict.fromkeys(imagenet_ids(), ELSEWHERE)
    texts = {**elsewhere, **_unique_names(names), **subset.label_of_text}
    if class_texts is None:
        is_whole = own is not None and len(own) == IMAGENET_CLASSES
        return ClassLabels(names, texts, _places_in(subset) if is_whole else range(len(subset)))
    if _are_numbers(class_texts) and len(class_texts) == IMAGENET_CLASSES:
        return ClassLabels(names, texts | {str(number): label for number, label in enumerate(_places_in(subset))})
    unknown = [text for text in class_texts if text not in texts]
    if len(unknown) == len(class_texts):
        raise UserError(
            f"{where}: classes: none of the set's {len(class_texts):,} labels ({first_names(class_texts)}) is a "
            "WordNet id, or a label that the file names; write each label before the ids of its line"
        )
    return ClassLabels(names, texts | dict.fromkeys(unknown, ELSEWHERE))


def _names_of_subset(
    given: list[list[str]] | None, own: list[list[str]] | None, subset: ClassSubset, where: str
) -> list[list[str]]:
    names = given if given is not None else own
    if names is None:
        raise UserError(f"{where}: classes: the classes have no names; {_REMEDY}")
    if len(names) == len(subset):
        return names
    if len(names) != IMAGENET_CLASSES:
        whose = "class_names has" if given is not None else "the set has"
        raise UserError(
            f"{where}: {whose} {len(names):,} classes, and classes names {len(subset):,}; give names of these, or of "
            f"all {IMAGENET_CLASSES:,} of ImageNet"
        )
    return subset.select(names)


def _places_in(subset: ClassSubset) -> list[int]:
    """The label of each of ImageNet's classes."""
    return [subset.label_of_text.get(wordnet_id, ELSEWHERE) for wordnet_id in imagenet_ids()]


def _unique_names(names: Sequence[Sequence[str]]) -> dict[str, int]:
    """The label of each name that only one class has."""
    counts = Counter(name for of_class in names for name in set(of_class))
    return {name: label for label, of_class in enumerate(names) for name in of_class if name and counts[name] == 1}


def _are_imagenet_ids(texts: Collection[str]) -> bool:
    return all(map(is_wordnet_id, texts)) and frozenset(imagenet_ids()).issuperset(texts)


def _are_numbers(texts: Collection[str]) -> bool:
    return {*texts} == {str(number) for number in range(len(texts))}


def sorted_texts(texts: Collection[str]) -> list[str]:
    """Raw labels in the order of the classes: sorted, and by value where they are the numbers from 0.

    Directories named `0` to `999` are the classes 0 to 999 (ImageNet V2). Sorted as texts, `10` would be class 2.

    >>> sorted_texts({"owl", "fox"}), sorted_texts(map(str, range(11)))[-1]
    (['fox', 'owl'], '10')
    """
    texts = list(texts)
    return sorted(texts, key=int) if _are_numbers(texts) else sorted(texts)
