"""Read, override, validate and write an experiment."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from laclip_ray.config.experiment import Experiment
from laclip_ray.errors import UserError


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2's floats: plain `1e-3` is a number, not a text."""


class _Dumper(yaml.SafeDumper):
    """Its counterpart: the text `1e-3` is quoted."""


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
            full path of every such key and what was expected.
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
    """A copy whose local paths are absolute: Ray's workers do not all run in this process's directory.

    Args:
        experiment: as loaded.
        outputs: whether places that are written to are made absolute too, or only what is read.
    """

    def absolute(path: str) -> str:
        return path if "://" in path else str(Path(path).absolute())

    content = experiment.model_dump(mode="json")
    evaluate = content["evaluate"]
    for data in (content["data"], *(retrieval["data"] for retrieval in evaluate["retrieval"])):
        paths = data["path"]
        data["path"] = absolute(paths) if isinstance(paths, str) else [absolute(path) for path in paths]
        data["image_root"] = data["image_root"] and absolute(data["image_root"])
    for zero_shot in evaluate["zero_shot"]:
        zero_shot["path"] = absolute(zero_shot["path"])
    if evaluate["checkpoint"] and evaluate["pretrained"] is None:
        evaluate["checkpoint"] = _absolute_model(evaluate["checkpoint"], absolute)
    elif evaluate["pretrained"] is not None and Path(evaluate["pretrained"]).is_file():
        evaluate["pretrained"] = absolute(evaluate["pretrained"])
    if content["model"]["name"].endswith(".json"):
        content["model"]["name"] = absolute(content["model"]["name"])
    rewrite = content["rewrite"]
    if rewrite["model"].startswith("."):
        rewrite["model"] = absolute(rewrite["model"])
    rewrite["prompt_sets"] = [
        absolute(name) if name.endswith((".yaml", ".yml")) else name for name in rewrite["prompt_sets"]
    ]
    if (picture := rewrite["gate"]["picture"]) and picture["model"].startswith("."):
        picture["model"] = absolute(picture["model"])
    if content["text"]["rewrites"]:
        content["text"]["rewrites"] = [absolute(location) for location in content["text"]["rewrites"]]
    for key, space in content["tune"]["space"].items():
        if space["grid"] and key == "text.rewrites":
            space["grid"] = [value and [absolute(location) for location in value] for value in space["grid"]]
        if space["grid"] and key == "model.name":
            space["grid"] = [absolute(name) if str(name).endswith(".json") else name for name in space["grid"]]
    if outputs:
        for section in (content, rewrite, content["train"], evaluate, content["tune"]):
            section["output"] = section["output"] and absolute(section["output"])
    return _validate(content, "config")


def _absolute_model(model: str, absolute: Callable[[str], str]) -> str:
    """A model's directory as an absolute path; `local-dir:` before it, and names of models, stay as they are."""
    path = model.removeprefix("local-dir:")
    is_path = path != model or "/" in path or Path(path).is_dir()
    if model.startswith("hf-hub:") or not is_path:
        return model
    return model.removesuffix(path) + absolute(path)


def _validate(content: dict[str, Any], where: str) -> Experiment:
    try:
        return Experiment.model_validate(content)
    except ValidationError as error:
        found: dict[str, list[str]] = {}
        for issue in error.errors():
            found.setdefault(_dotted(issue["loc"]), []).append(_explain(dict(issue)))
        lines = [f"  {key}: {'; or '.join(explanations)}" for key, explanations in found.items()]
        raise UserError("\n".join([f"{where}: {len(lines)} invalid value(s)", *lines])) from error


def _dotted(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        if part in ("str", "list[str]") or str(part).startswith("<"):
            continue  # names of the alternatives of one key
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
