"""Read, override, validate and write an experiment."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from laclip_ray.config.experiment import Experiment
from laclip_ray.config.facts import ITEM, walk
from laclip_ray.config.markers import DIRECTORY_PREFIX, InputPath, OutputPath, always
from laclip_ray.errors import UserError


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the floats of YAML 1.2: plain `1e-3` is a number, not a text."""


class _Dumper(yaml.SafeDumper):
    """The counterpart of `_Loader`: it quotes the text `1e-3`."""


for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
        list("-+.0123456789"),
    )


def _load_yaml(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader


def to_yaml(section: BaseModel) -> str:
    """The section as YAML that `load_experiment` reads back to an equal one."""
    return yaml.dump(section.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def load_experiment(path: str, overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment from a YAML file and apply dotted overrides.

    Args:
        path: the YAML file.
        overrides: `section.key=value` strings, applied in order; values are YAML (`tune.p=[0, 0.5]`).

    Raises:
        UserError: the file is missing or not YAML, or a key is unknown or has the wrong type; the message has the
            full path of every such key and the expected value.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f"{path}: there is no such config file")
    try:
        content = _load_yaml(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as YAML: {error}") from error
    return parse_experiment(content, overrides, where=path)


def parse_experiment(content: object, overrides: Sequence[str] = (), where: str = "config") -> Experiment:
    """Validate the content of a config file; see `load_experiment`."""
    if not isinstance(content, Mapping):
        raise UserError(f"{where}: expected a mapping of sections, got {type(content).__name__}")
    merged = _expand_environment(dict(content), where)
    for override in overrides:
        _apply_override(merged, override)
    return _validate(merged, where)


def with_overrides(experiment: Experiment, changes: Mapping[str, Any]) -> Experiment:
    """A copy of `experiment` with values at dotted keys replaced, validated again."""
    content = experiment.model_dump(mode="json")
    for key, value in changes.items():
        _set_dotted(content, key, value, origin=key)
    return _validate(content, "config")


def with_absolute_paths(experiment: Experiment, outputs: bool) -> Experiment:
    """A copy with absolute local paths, because Ray's workers and tasks run in other directories than this process.

    URLs and names of models and prompt sets do not change.

    Args:
        experiment: as loaded.
        outputs: whether to change output paths too, or only input paths.
    """
    content = experiment.model_dump(mode="json")
    for facts in walk(Experiment):
        if marker := facts.marker(InputPath):
            _replace(content, facts.key.split("."), partial(_absolute_input, marker))
            if grid := content["tune"]["space"].get(facts.key, {}).get("grid"):
                grid[:] = [_absolute(value, marker.is_path) for value in grid]
        elif outputs and facts.marker(OutputPath):
            _replace(content, facts.key.split("."), lambda value, _: _absolute(value, always))
    return _validate(content, "config")


def _replace(section: Any, key: Sequence[str], change: Callable[[Any, dict[str, Any]], Any]) -> None:
    """Replace the value at a key of `walk`; `change` gets the value and its section."""
    if not isinstance(section, dict):
        return  # an optional section without a value
    name, *rest = key
    if not rest:
        section[name] = change(section[name], section)
    elif name.endswith(ITEM):
        items = section[name.removesuffix(ITEM)]
        for item in items.values() if isinstance(items, dict) else items or ():
            _replace(item, rest, change)
    else:
        _replace(section[name], rest, change)


def _absolute_input(marker: InputPath, value: Any, section: dict[str, Any]) -> Any:
    is_name = marker.is_name_if is not None and section[marker.is_name_if] is not None
    return value if is_name else _absolute(value, marker.is_path)


def _absolute(value: Any, is_path: Callable[[str], bool]) -> Any:
    if isinstance(value, list):
        return [_absolute(item, is_path) for item in value]
    if not isinstance(value, str) or not value or "://" in value or not is_path(value):
        return value
    prefix = DIRECTORY_PREFIX if value.startswith(DIRECTORY_PREFIX) else ""
    return prefix + str(Path(value.removeprefix(prefix)).absolute())


def _validate(content: dict[str, Any], where: str) -> Experiment:
    try:
        return Experiment.model_validate(content)
    except ValidationError as error:
        issues: dict[str, list[str]] = {}
        for issue in error.errors():
            issues.setdefault(_dotted(issue["loc"]), []).append(_explain(dict(issue)))
        lines = [f"  {key}: {'; or '.join(explanations)}" for key, explanations in issues.items()]
        raise UserError("\n".join([f"{where}: {len(lines)} invalid value(s)", *lines])) from error


def _dotted(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        if part in ("str", "list[str]") or str(part).startswith("<"):
            continue  # pydantic's names for the alternatives of a union
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _explain(issue: dict[str, Any]) -> str:
    if issue["type"] == "extra_forbidden":
        return "unknown key"
    if issue["type"] == "missing":
        return "missing, a value is required"
    message = str(issue["msg"])
    message = message[:1].lower() + message[1:]
    return f"{message}, got {issue['input']!r}" if not isinstance(issue["input"], Mapping) else message


def _expand_environment(value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _expand_environment(item, where) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand_environment(item, where) for item in value]
    if isinstance(value, str):

        def replace(match: re.Match[str]) -> str:
            name = match.group(1)
            if name not in os.environ:
                raise UserError(f"{where}: ${{{name}}} is used, but the environment variable {name} is not set")
            return os.environ[name]

        return re.sub(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", replace, value)
    return value


def _apply_override(content: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise UserError(f"override {override!r}: expected key=value, such as train.epochs=3")
    try:
        value = _load_yaml(text)
    except yaml.YAMLError as error:
        raise UserError(f"override {override!r}: the value is not YAML: {error}") from error
    _set_dotted(content, key.strip(), value, origin=override)


def _set_dotted(content: dict[str, Any], key: str, value: Any, origin: str) -> None:
    *parents, last = key.split(".")
    section = content
    for parent in parents:
        child = section.setdefault(parent, {})
        if not isinstance(child, dict):
            raise UserError(f"override {origin!r}: {parent!r} is a value, not a section")
        section = child
    section[last] = value
