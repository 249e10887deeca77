"""`laclip init`: look at data, and write a config that reads it."""

import os
from dataclasses import dataclass
from pathlib import Path

from laclip_ray import storage
from laclip_ray.config import parse_experiment
from laclip_ray.config.yaml_text import parse_yaml
from laclip_ray.errors import UserError
from laclip_ray.survey.config_text import config_text, name_of_data
from laclip_ray.survey.facts import Facts
from laclip_ray.survey.looking import look
from laclip_ray.survey.settings import planned_gpus, settings_for


@dataclass(frozen=True)
class Started:
    """A written config."""

    config: str
    """Its path."""
    text: str
    facts: Facts


def start(path: str, config: str | None, overwrite: bool) -> Started:
    """Look at data, and write a config.

    Args:
        path: a file, directory, glob or URL.
        config: the path of the config. None: the data's name, in the current directory.
        overwrite: whether to replace an existing config.

    Raises:
        UserError: the config exists, or the data cannot be used; the message says what to do.
        OSError: the storage failed.
    """
    path = _absolute(path) if storage.is_local(path) and "::" not in path else path
    name = name_of_data(path)
    target = Path(config or f"{name}.yaml")
    table = target.with_suffix(".pairs.jsonl").absolute()
    if target.exists() and not overwrite:
        raise UserError(f"--output: {target} exists; choose another, or replace it with --force")
    if not target.parent.is_dir():
        raise UserError(f"--output: the directory {target.parent} does not exist; make it, or choose another")
    if "${" in path:
        raise UserError(f"DATA: {path} holds '${{', which a config takes for a variable; rename the directory")
    facts = look(path, str(table))
    samples = max(1, facts.rows.count)
    gpus = planned_gpus(samples, local_gpus())
    settings = settings_for(samples, gpus, has_split=facts.evaluated is not None)
    text = config_text(name, facts, settings, gpus)
    parse_experiment(parse_yaml(text), where=str(target))
    storage.write_bytes(str(target.absolute()), text.encode())
    return Started(str(target), text, facts)


def _absolute(path: str) -> str:
    """An absolute path without `..`, unless a linked directory gives these another meaning."""
    absolute = str(Path(path).expanduser().absolute())
    plain = os.path.normpath(absolute)
    return plain if os.path.realpath(plain) == os.path.realpath(absolute) else absolute


def local_gpus() -> int:
    """NVIDIA GPUs of this machine that this process may use, without loading a library."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = len([*Path("/dev").glob("nvidia[0-9]*")])
    return devices if visible is None else min(devices, len([each for each in visible.split(",") if each.strip()]))
