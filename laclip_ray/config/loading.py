"""Read, override, validate and write an experiment."""

import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from laclip_ray.config.experiment import Experiment, KeyPath
from laclip_ray.config.facts import ITEM, FieldFacts, walk
from laclip_ray.config.markers import DIRECTORY_PREFIX, InputPath, OutputPath, always
from laclip_ray.config.problems import describe_problems
from laclip_ray.config.yaml_text import dump_yaml, parse_yaml
from laclip_ray.errors import UserError
from laclip_ray.nearest import did_you_mean
from laclip_ray.printable import counted
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
    return parse_experiment(read_config(path)[1], overrides, where=path)


def read_config(path: str) -> tuple[str, Any]:
    """The text of a config file, and its content, not validated.

    Raises:
        UserError: the file is missing or not YAML.
    """
    file = Path(path)
    if not file.is_file():
        beside = [each.name for each in file.parent.glob("*.y*ml")] if file.parent.is_dir() else []
        raise UserError(f"{path}: there is no such config file{did_you_mean(file.name, beside)}")
    try:
        text = file.read_text(encoding="utf-8-sig")
        return text, parse_yaml(text)
    except ValueError as error:
        raise UserError(f"{path}: not readable as YAML: {error}") from error


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


def with_absolute_paths(experiment: Experiment, outputs: bool, in_package: bool = False) -> Experiment:
    """A copy with absolute local paths, because Ray's workers and tasks run in other directories than this process.

    URLs and names of models and prompt sets do not change.

    Args:
        experiment: as loaded.
        outputs: whether to change output paths too, or only input paths.
        in_package: whether this process runs in the package directory of a submitted job. Files that travelled in it
            then have another absolute path after each submission. `as_written` keeps their relative paths, so a run
            stays the same run.
    """
    content = experiment.model_dump(mode="json")
    templates = dict(experiment.templates)

    def change(place: KeyPath, path: str, facts: FieldFacts) -> str:
        marker = facts.marker(InputPath)
        if marker is None and not outputs:
            return path
        if in_package and marker is not None and marker.travels and not Path(path).is_absolute():
            templates.setdefault(place, path)
        return str(Path(path).absolute())

    _change_paths(content, change)
    return _with_templates(_validate(content, "config"), templates)


@dataclass(frozen=True)
class LocalPath:
    """A local path in an experiment."""

    key: str
    """Dotted, as `walk` gives it: `evaluate.labelled[].path`."""
    path: str
    is_output: bool
    travels: bool
    """See `InputPath.travels`."""


def local_paths(experiment: Experiment) -> list[LocalPath]:
    """Every local path of an experiment, without URLs and names."""
    found: list[LocalPath] = []

    def note(place: KeyPath, path: str, facts: FieldFacts) -> str:
        marker = facts.marker(InputPath)
        found.append(LocalPath(facts.key, path, marker is None, marker is not None and marker.travels))
        return path

    _change_paths(experiment.model_dump(mode="json"), note)
    return found


def named_variables(content: object) -> list[str]:
    """The environment variables that a config file's content names as `${NAME}`, each once, in their order."""
    if isinstance(content, Mapping):
        content = list(content.values())
    if isinstance(content, list):
        return list(dict.fromkeys(name for item in content for name in named_variables(item)))
    return list(dict.fromkeys(_VARIABLE.findall(content))) if isinstance(content, str) else []


_Change = Callable[[KeyPath, str, FieldFacts], str]
"""From a local path, its place and its field to the new path."""


def _change_paths(content: dict[str, Any], change: _Change) -> None:
    """Change every local path of an experiment as JSON, also in swept values."""
    for facts in walk(Experiment):
        marker = facts.marker(InputPath)
        if marker is None and facts.marker(OutputPath) is None:
            continue
        is_path = always if marker is None else marker.is_path
        is_name_if = None if marker is None else marker.is_name_if

        def change_value(
            place: KeyPath, value: Any, facts: FieldFacts = facts, is_path: Callable[[str], bool] = is_path
        ) -> Any:
            if isinstance(value, list):
                return [change_value((*place, index), item) for index, item in enumerate(value)]
            if not isinstance(value, str) or not value or "://" in value or not is_path(value):
                return value
            prefix = DIRECTORY_PREFIX if value.startswith(DIRECTORY_PREFIX) else ""
            return prefix + change(place, value.removeprefix(prefix), facts)

        _replace(content, facts.key.split("."), (), change_value, is_name_if)
        if marker is not None and (grid := content["tune"]["space"].get(facts.key, {}).get("grid")):
            place = ("tune", "space", facts.key, "grid")
            grid[:] = [change_value((*place, index), value) for index, value in enumerate(grid)]


def _replace(
    section: Any, key: Sequence[str], place: KeyPath, change: Callable[[KeyPath, Any], Any], is_name_if: str | None
) -> None:
    """Replace the value at a key of `walk`.

    Args:
        section: a section, as JSON.
        key: from this section.
        place: of the section.
        change: from a value's place and the value to the new one.
        is_name_if: a key beside the value: if it is set, the value is a name and stays.
    """
    if not isinstance(section, dict):
        return  # an optional section without a value
    name, *rest = key
    if not rest:
        if is_name_if is None or section[is_name_if] is None:
            section[name] = change((*place, name), section[name])
    elif name.endswith(ITEM):
        name = name.removesuffix(ITEM)
        items = section[name]
        for index, item in items.items() if isinstance(items, dict) else enumerate(items or ()):
            _replace(item, rest, (*place, name, index), change, is_name_if)
    else:
        _replace(section[name], rest, (*place, name), change, is_name_if)


def _validate(content: dict[str, Any], where: str, overridden: Collection[str] = ()) -> Experiment:
    try:
        return Experiment.model_validate(content)
    except ValidationError as error:
        problems = describe_problems(error, [facts.key for facts in walk(Experiment)], overridden)
        raise UserError("\n".join([f"{where}: {counted(len(problems), 'invalid value')}", *problems])) from error


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
