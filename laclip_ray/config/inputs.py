"""The local paths of an experiment that Ray's tasks and actors read, on any node of a cluster."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from laclip_ray.config.experiment import Experiment
from laclip_ray.config.facts import ITEM, walk
from laclip_ray.config.markers import InputPath

Inputs = Sequence[tuple[str, str]]
"""Paths and URLs, each after its config key. A key that takes a list occurs with each of its items."""


def inputs_on_nodes(experiment: Experiment, *sections: str) -> list[tuple[str, str]]:
    """The inputs in some sections that tasks and actors read: paths and URLs, but no names of models or lists.

    Args:
        experiment: the configuration.
        sections: top-level keys, such as `data`.
    """
    content = experiment.model_dump(mode="json")
    return [
        (facts.key, value)
        for facts in walk(Experiment)
        if (marker := facts.marker(InputPath)) and marker.is_read_on_nodes and facts.key.split(".")[0] in sections
        for value in _paths(content, facts.key.split("."), marker)
    ]


def _paths(section: Any, key: Sequence[str], marker: InputPath) -> Iterator[str]:
    """The paths at a key of `walk`."""
    if not isinstance(section, dict):
        return  # an optional section without a value
    name, *rest = key
    value = section[name.removesuffix(ITEM)]
    if rest and name.endswith(ITEM):
        for item in value.values() if isinstance(value, dict) else value or ():
            yield from _paths(item, rest, marker)
    elif rest:
        yield from _paths(value, rest, marker)
    elif marker.is_name_if is None or section[marker.is_name_if] is None:
        yield from _strings(value, marker)


def _strings(value: Any, marker: InputPath) -> Iterator[str]:
    values: Collection[Any] = value if isinstance(value, list) else [value]
    yield from (each for each in values if isinstance(each, str) and each and marker.is_path(each))
