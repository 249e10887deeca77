"""Presets: one name for many values of a section.

A preset gives values to the keys that the user does not write; a value that the user writes wins. The configuration
that a run prints, records and fingerprints holds the values, so a preset and the same values written out are one.

`paper` is LaCLIP (Fan et al., NeurIPS 2023) as its authors' code runs it: `rewrite/llama_rewrite.py` and `data.py` in
github.com/LijieFan/LaCLIP. `docs/reproducing.md` says what it takes from where, and what stays different.
"""

from collections.abc import Mapping
from types import NoneType
from typing import Any, get_args

from pydantic.fields import FieldInfo

from laclip_ray.config.fields import Preset, Section

PAPER_HEADS = 3_360
"""The ordered triples of 16 pairs. The authors' lists have 16, and their code draws a triple for each caption."""

REWRITE: dict[Preset, dict[str, Any]] = {
    "paper": {
        "mode": "completion",
        "template": "reference",
        "heads": PAPER_HEADS,
        "head_choice": "any",
        "rewrites_per_set": 1,
        "sampling": {"temperature": 0.9, "top_p": 0.95, "max_tokens": 77},
        "gate": {"preset": "paper"},
    }
}
"""By preset, the values of `rewrite`."""

BESIDE_GATE: dict[Preset, dict[str, Any]] = {"paper": {"redraws": 0, "completions": "reference"}}
"""By preset of `rewrite.gate`, the values of `rewrite` that go with it: what the gate gets to see, and how often."""

GATE: dict[Preset, dict[str, Any]] = {"paper": {"min_words": 2, "word_count": "spaces"}}
"""By preset, the values of `rewrite.gate`. All other checks are off."""


def fill_rewrite(content: object) -> object:
    """The content of `rewrite` with the values of its preset, and of its gate's."""
    if not isinstance(content, Mapping):
        return content
    filled = _fill(content, _values(REWRITE, content.get("preset")))
    gate = filled.get("gate")
    preset = gate.get("preset") if isinstance(gate, Mapping) else getattr(gate, "preset", None)
    return _fill(filled, _values(BESIDE_GATE, preset))


def fill_gate(content: object, section: type[Section]) -> object:
    """The content of `rewrite.gate` with the values of its preset.

    Args:
        content: as written.
        section: the type of the section, whose checks a preset switches off.
    """
    values = _values(GATE, content.get("preset")) if isinstance(content, Mapping) else {}
    return _fill(content, {**_all_off(section), **values}) if values and isinstance(content, Mapping) else content


def without_meaning(gate: object) -> object:
    """The content of `rewrite.gate` without a meaning gate, unless one is written there."""
    return {"meaning": None, **gate} if isinstance(gate, Mapping) else gate


def _values(presets: Mapping[Preset, dict[str, Any]], preset: object) -> dict[str, Any]:
    """The values of a preset; empty for another value, which validation refuses later."""
    return next((values for name, values in presets.items() if name == preset), {})


def _all_off(section: type[Section]) -> dict[str, Any]:
    """The values that switch off every check of a gate."""
    return {name: value for name, info in section.model_fields.items() for value in _off(info)}


def _off(info: FieldInfo) -> tuple[Any, ...]:
    """The value that switches a check off; empty for a setting that is no check."""
    if NoneType in get_args(info.annotation):
        return (None,)
    return (type(info.default)(0),) if isinstance(info.default, bool | int | float) else ()


def _fill(content: Mapping[Any, Any], values: Mapping[str, Any]) -> dict[Any, Any]:
    filled = dict(content)
    for key, value in values.items():
        if key not in filled:
            filled[key] = value
        elif isinstance(value, Mapping) and isinstance(filled[key], Mapping):
            filled[key] = _fill(filled[key], value)
    return filled
