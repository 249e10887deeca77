"""Metrics as numbers by name, as every tracker takes them."""

import math
from collections.abc import Mapping
from typing import Any


def numbers(content: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The finite numbers in nested mappings, by their path.

    >>> numbers({"loss": 2.5, "skipped": {"no_image": 3}, "note": "text", "p": None}, "train/")
    {'train/loss': 2.5, 'train/skipped/no_image': 3}
    """
    found: dict[str, float] = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            found |= numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            found[f"{prefix}{name}"] = value
    return found


def dotted(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values in nested mappings, by dotted key; lists are values.

    >>> dotted({"train": {"epochs": 3}, "seed": 0})
    {'train.epochs': 3, 'seed': 0}
    """
    found: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, Mapping) and value:
            found |= dotted(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found
