"""Walk over the fields of a config section and read the facts (`markers`) that stand at them."""

import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic.fields import FieldInfo

from laclip_ray.config.fields import Section
from laclip_ray.config.markers import Marker

M = TypeVar("M", bound=Marker)

ITEM = "[]"
"""Follows the key of a list of sections, or of a mapping to sections."""


@dataclass(frozen=True)
class FieldFacts:
    """One field, and the facts about it."""

    key: str
    """Dotted, from the section where the walk began: `evaluate.labelled[].path`."""
    info: FieldInfo
    markers: tuple[Marker, ...]

    def marker(self, kind: type[M]) -> M | None:
        """The field's marker of a kind, or None."""
        return next((marker for marker in self.markers if isinstance(marker, kind)), None)


def walk(section: type[Section], prefix: str = "") -> Iterator[FieldFacts]:
    """Every field of a section, each followed by the fields of the sections that it holds."""
    for name, info in section.model_fields.items():
        key = f"{prefix}{name}"
        yield FieldFacts(key, info, tuple(item for item in info.metadata if isinstance(item, Marker)))
        for mark, nested in sections_of(info.annotation):
            yield from walk(nested, f"{key}{mark}.")


def marked_keys(section: type[Section], kind: type[Marker]) -> frozenset[str]:
    """The keys of all fields with a marker of a kind, dotted from `section`.

    For example, `marked_keys(Experiment, CanBeSwept)` holds `model`, `stream`, `text` and `train`.
    """
    return frozenset(facts.key for facts in walk(section) if facts.marker(kind) is not None)


def sections_of(annotation: Any) -> Iterator[tuple[str, type[Section]]]:
    """The sections that a type names, each with the mark that its key gets: empty, or `ITEM`."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield "", annotation
        return
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        arguments = arguments[:1]
    for argument in arguments:
        for mark, section in sections_of(argument):
            yield (ITEM if origin in (list, dict) else mark), section
