"""Read, override, validate and write an experiment."""

import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from laclip_ray.config.experiment import Experiment, KeyPath
from laclip_ray.config.facts import ITEM, walk
from laclip_ray.config.markers import DIRECTORY_PREFIX, InputPath, OutputPath, always
from laclip_ray.config.problems import describe_problems
from laclip_ray.config.yaml_text import dump_yaml, parse_yaml
from laclip_ray.errors import UserError
from laclip_ray.redaction import is_secret_name, redacted, register_secrets

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def to_yaml(section: BaseModel) -> str:
    """The section as YAML that `load_experiment` reads back to an equal one, but for secrets, which become `***`."""
    return dump_yaml(redacted(section.model_dump(mode="json")))


def to_config(experiment: Experiment) -> str:
    """The experiment as a config file, with `${NAME}` where it was loaded with `${NAME}`."""
    return dump_yaml(experiment.as_written())


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
        content = parse_yaml(file.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise UserError(f"{path}: not readable as YAML: {error}") from error
    return parse_experiment(content, overrides, where=path)


def parse_experiment(content: object, overrides: Sequence[str] = (), where: str = "config") -> Experiment:
    """Validate the content of a config file; see `load_experiment`."""
    if not isinstance(content, Mapping):
        raise UserError(f"{where}: expected a mapping of sections, got {type(content).__name__}")
    templates: dict[KeyPath, str] = {}
    merged = _expand_environment(dict(content), where, (), templates)
    overridden = [_apply_override(merged, override) for override in overrides]
    register_secrets(merged)
    return _with_templates(_validate(merged, where, overridden), _outside(templates, overridden))


def with_overrides(experiment: Experiment, changes: Mapping[str, Any]) -> Experiment:
    """A copy of `experiment` with values at dotted keys replaced, validated again."""
    content = experiment.model_dump(mode="json")
    for key, value in changes.items():
        _set_dotted(content, key, value, origin=key)
    return _with_templates(_validate(content, "config"), _outside(experiment.templates, changes))


def _with_templates(experiment: Experiment, templates: Mapping[KeyPath, str]) -> Experiment:
    experiment.keep_templates(templates)
    return experiment


def _outside(templates: Mapping[KeyPath, str], keys: Collection[str]) -> dict[KeyPath, str]:
    """The templates that are neither at nor below one of the dotted keys."""
    replaced = [tuple(key.split(".")) for key in keys]
    return {path: text for path, text in templates.items() if not any(path[: len(key)] == key for key in replaced)}


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
    return _with_templates(_validate(content, "config"), experiment.templates)


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


def _validate(content: dict[str, Any], where: str, overridden: Collection[str] = ()) -> Experiment:
    try:
        return Experiment.model_validate(content)
    except ValidationError as error:
        problems = describe_problems(error, [facts.key for facts in walk(Experiment)], overridden)
        raise UserError("\n".join([f"{where}: {len(problems)} invalid value(s)", *problems])) from error


def _expand_environment(value: Any, where: str, path: KeyPath, templates: dict[KeyPath, str]) -> Any:
    """The value with `${NAME}` replaced from the environment; texts that had one are added to `templates`."""
    if isinstance(value, Mapping):
        return {key: _expand_environment(item, where, (*path, key), templates) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand_environment(item, where, (*path, index), templates) for index, item in enumerate(value)]
    if not isinstance(value, str) or not _VARIABLE.search(value):
        return value
    templates[path] = value
    for name in _VARIABLE.findall(value):
        if name not in os.environ:
            raise UserError(f"{where}: ${{{name}}} is used, but the environment variable {name} is not set")
        if is_secret_name(name):
            register_secrets(os.environ[name], name)
    return _VARIABLE.sub(lambda match: os.environ[match[1]], value)


def _apply_override(content: dict[str, Any], override: str) -> str:
    """Set the value of one override; its dotted key."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise UserError(f"override {override!r}: expected key=value, such as train.epochs=3")
    try:
        value = parse_yaml(text)
    except ValueError as error:
        raise UserError(f"override {override!r}: the value is not YAML: {error}") from error
    _set_dotted(content, key.strip(), value, origin=override)
    return key.strip()


def _set_dotted(content: dict[str, Any], key: str, value: Any, origin: str) -> None:
    *parents, last = key.split(".")
    section = content
    for parent in parents:
        child = section.setdefault(parent, {})
        if not isinstance(child, dict):
            raise UserError(f"override {origin!r}: {parent!r} is a value, not a section")
        section = child
    section[last] = value
