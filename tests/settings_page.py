"""Write `docs/settings.md` from the config: every key with its values, default, facts and docstring.

python -m tests.settings_page
"""

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from laclip_ray.config import (
    CanBeSwept,
    ChangesNoVerdict,
    DecidesRecipe,
    Experiment,
    FixedInSweep,
    InputPath,
    OutputPath,
    Section,
    marked_keys,
    parse_experiment,
)
from laclip_ray.config.facts import sections_of
from laclip_ray.training.run_record import settings_of_run
from tests.plain_types import bounds_of, words_of

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"

INTRODUCTION = """\
# Settings

Every key of a config. `make docs` writes this page from the docstrings in `laclip_ray/config/`.

- One YAML file is one experiment. Keys are nested in the file (`train: {epochs: 3}`) and dotted on the command line
  (`train.epochs=3`), which wins.
- `${NAME}` in a text is replaced from the environment. Secrets belong there ([runs](runs.md#secrets)).
- An unknown key or a wrong type is refused, with the key's path and the nearest key.
- `laclip VERB CONFIG --dry-run` prints the config with every default.
- `[]` in a key stands for each item of a list, or each value of a mapping. `null` is YAML's empty value.
- "with `paper`" beside a default: the value under the section's `preset: paper`. A value that you write wins.

| fact | meaning |
| --- | --- |
| path | a local path or a URL |
| recipe | decides what the language model writes. Another value needs another `rewrite.output` |
| gate | decides the gate's verdicts. After a change, the next run judges the stored draws again |
| run | fixed once a training run has begun. Another value needs another `train.output` |
| sweep | `tune.space` may name it |
"""

UNITS = {
    **{"_per_s": "per second", "_s": "in seconds", "_minutes": "in minutes", "gpu_hours": "in GPU-hours"},
    **{"_gib": "in GiB", "_bytes": "in bytes", "_pixels": "in pixels", "max_tokens": "in tokens"},
    **{"_epochs": "in epochs", "_steps": "in steps", "_rows": "in rows", "_characters": "in characters"},
}
"""The unit of a number by the end of its key; the first that fits."""

WRITTEN_AGAIN = 2
"""A section with at most so many keys is written out at each of its places; a larger one only at the first."""

_TABLE = "| key | value | default | facts | meaning |\n| --- | --- | --- | --- | --- |"
_REQUIRED: dict[str, Any] = {"name": "x", "output": "x", "data": {"path": "x"}}
_IDENTITY = settings_of_run(parse_experiment(_REQUIRED).model_dump(mode="json"), parse_experiment(_REQUIRED).text)
_PATHS = marked_keys(Experiment, InputPath) | marked_keys(Experiment, OutputPath)
_RECIPE = marked_keys(Experiment, DecidesRecipe)
_CHANGES_NO_VERDICT = marked_keys(Experiment, ChangesNoVerdict)
_SWEPT, _NOT_SWEPT = marked_keys(Experiment, CanBeSwept), marked_keys(Experiment, FixedInSweep)
_ABSENT = object()
_PAPER = parse_experiment({**_REQUIRED, "rewrite": {"preset": "paper"}}).model_dump(mode="json")


def page() -> str:
    """The whole page."""
    sections = ", ".join(
        link(name) for name, info in Experiment.model_fields.items() if [*sections_of(info.annotation)]
    )
    text = "\n".join([INTRODUCTION, f"Sections: {sections}.", *_Sections().of("", [Experiment])])
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


class _Sections:
    """Writes sections, and remembers where."""

    def __init__(self) -> None:
        self._key_of: dict[type[Section], str] = {}

    def of(self, key: str, sections: list[type[Section]]) -> Iterator[str]:
        """The sections that a key may hold, each followed by the sections in it."""
        if key:
            yield f"\n{'##' if '.' not in key else '###'} {key}\n"
        for section in sections:
            known = next((each for each in section.__mro__ if each in self._key_of), None)
            names = [*section.model_fields]
            if known is not None and len(names) > WRITTEN_AGAIN:
                names = [name for name in names if _differs(section.model_fields[name], known.model_fields.get(name))]
                yield (
                    _prose(section.__doc__)
                    + f" The keys are those of {link(self._key_of[known])}"
                    + (", except for:\n" if names else ".\n")
                )
            else:
                self._key_of.setdefault(section, key)
                yield _prose(section.__doc__) + "\n" if key else ""
            if names:
                yield _TABLE
            yield from (_row(key, name, section.model_fields[name]) for name in names)
            yield ""
            for name in names if known is None else ():
                nested = [*sections_of(section.model_fields[name].annotation)]
                for mark, several in itertools.groupby(nested, key=lambda found: found[0]):
                    yield from self.of(_join(key, f"{name}{mark}"), [section for _, section in several])


def link(key: str) -> str:
    """A link to the part of the page about a section."""
    return f"[`{key}`](#{re.sub(r'[^a-z0-9_-]', '', key.lower().replace(' ', '-'))})"


def _row(section: str, name: str, info: FieldInfo) -> str:
    key = _join(section, name)
    cells = (f"`{key}`", _value(name, info), _default(key, info), ", ".join(_facts(key)), _prose(info.description))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _value(name: str, info: FieldInfo) -> str:
    words = words_of(info.annotation, bounds_of(info.metadata))
    unit = next((unit for end, unit in UNITS.items() if name.endswith(end)), None)
    return (
        re.sub(r"^(integer|number)( from [\d,]+ to [\d,]+)?((?:, (?:at|above|below)[^,]+)*)", rf"\1\2\3, {unit}", words)
        if unit
        else words
    )


def _default(key: str, info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    default = info.get_default(call_default_factory=True)
    if isinstance(default, Section):
        return "below"
    content = to_jsonable_python(default)
    written = _yaml(content)
    if key.endswith("_bytes"):
        written += f" ({content >> 20} MiB)"
    under_preset = _at(_PAPER, key)
    if key.startswith("rewrite.") and not key.endswith(".preset") and under_preset not in (content, _ABSENT):
        written += f"; with `paper` {_yaml(under_preset)}"
    return written


def _facts(key: str) -> Iterator[str]:
    if key in _PATHS:
        yield "path"
    if _is_within(key, _RECIPE):
        yield "recipe"
    decides_verdicts = _is_within(key, ["rewrite.gate"]) and not _is_within(key, _CHANGES_NO_VERDICT)
    if decides_verdicts:
        yield "gate"
    if _is_within(key, _IDENTITY) and (decides_verdicts or not _is_within(key, ["rewrite.gate"])):
        yield "run"
    if "." in key and _is_within(key, _SWEPT) and not _is_within(key, _NOT_SWEPT):
        yield "sweep"


def _is_within(key: str, keys: Iterable[str]) -> bool:
    """Whether a key is one of these, or stands in the section of one."""
    return any(key == each or key.startswith((f"{each}.", f"{each}[")) for each in keys)


def _at(content: Any, key: str) -> Any:
    """The value at a dotted key; `_ABSENT` if a section above it is absent."""
    for name in key.split("."):
        if not isinstance(content, Mapping) or name not in content:
            return _ABSENT
        content = content[name]
    return content


def _yaml(value: Any) -> str:
    """A value as YAML takes it, in one line."""
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
    return f"`{text}`"


def _prose(docstring: str | None) -> str:
    """A docstring in one line, in the words of YAML."""
    text = " ".join((docstring or "").split())
    text = re.sub(r"\bNone\b", "`null`", text)
    return re.sub(r"`docs/(\w+)\.md`", r"[\1](\1.md)", text)


def _differs(info: FieldInfo, other: FieldInfo | None) -> bool:
    return other is None or any(
        getattr(info, name) != getattr(other, name) for name in ("annotation", "default", "description")
    )


def _join(section: str, name: str) -> str:
    return f"{section}.{name}" if section else name


def write() -> None:
    """Write the page."""
    PAGE.write_text(page())


if __name__ == "__main__":
    write()
