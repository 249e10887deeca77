"""The problems of a config, one line for each key: the value, where it came from, and the nearest known key."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from laclip_ray.config.facts import ITEM
from laclip_ray.nearest import did_you_mean, nearest

_SHOWN_CHARACTERS = 200
"""Of a refused value."""
_QUOTED = re.compile(r"'([^']*)'")


def describe_problems(error: ValidationError, known_keys: Sequence[str], overridden: Collection[str]) -> list[str]:
    """A line for each invalid key.

    Args:
        error: of the whole experiment.
        known_keys: every key of an experiment, dotted, as `facts.walk` gives them.
        overridden: dotted keys that came from the command line.
    """
    issues: dict[str, list[str]] = {}
    for issue in error.errors():
        key = _dotted(issue["loc"])
        issues.setdefault(key, []).append(_explain(dict(issue), key, known_keys))
    # Without a key, sections contradict each other, and the message names the keys.
    return [
        f"  {key}{': ' if key else ''}{'; or '.join(explanations)}{_origin(key, overridden) if key else ''}"
        for key, explanations in issues.items()
    ]


def _dotted(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        if part in ("str", "list[str]") or str(part).startswith("<"):
            continue  # pydantic's names for the alternatives of a union
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _explain(issue: dict[str, Any], key: str, known_keys: Sequence[str]) -> str:
    if issue["type"] == "extra_forbidden":
        found = nearest_key(key, known_keys)
        return "unknown key" + (f"; the nearest key is {found}" if found else "")
    if issue["type"] == "missing":
        return "missing, a value is required"
    message = str(issue["msg"]).removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if isinstance(issue["input"], Mapping):
        return message
    try:
        value = repr(issue["input"])
    except ValueError:  # a whole number of too many digits
        value = "a very large number"
    shown = value if len(value) <= _SHOWN_CHARACTERS else f"{value[:_SHOWN_CHARACTERS]}..."
    near = ""
    if issue["type"] == "literal_error" and isinstance(issue["input"], str):
        near = did_you_mean(issue["input"], _QUOTED.findall(issue["ctx"]["expected"]))
    return f"{message}, got {shown}{near}"


def _origin(key: str, overridden: Collection[str]) -> str:
    """Where a key came from, if there are two places."""
    if not overridden:
        return ""
    from_command_line = any(
        key == name or key.startswith((f"{name}.", f"{name}[")) or name.startswith((f"{key}.", f"{key}["))
        for name in overridden
    )
    return " (from the command line)" if from_command_line else " (from the file)"


def nearest_key(key: str, known_keys: Sequence[str]) -> str | None:
    """The known key that a mistyped key most likely means: of its section, else of the same name elsewhere.

    >>> nearest_key("train.epoch", ["train.epochs", "train.batch_size"])
    'train.epochs'
    """
    plain = {known.replace(ITEM, ""): known.replace(ITEM, "") for known in known_keys}
    section, _, name = _without_numbers(key).rpartition(".")
    siblings = {known.rpartition(".")[2]: known for known in plain if known.rpartition(".")[0] == section}
    if (sibling := nearest(name, siblings)) is not None:
        return siblings[sibling]
    namesakes = [known for known in plain if known.rpartition(".")[2] == name]
    if namesakes:
        return min(namesakes, key=lambda known: known.count("."))
    return nearest(_without_numbers(key), plain, cutoff=0.75)


def _without_numbers(key: str) -> str:
    return "".join(part.partition("]")[2] if number else part for number, part in enumerate(key.split("[")))
