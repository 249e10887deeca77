"""What travels with a submitted job: files, variables and the command. What cannot travel is refused, with the reason.

The job runs in a directory of its own. By default it holds the config and the settings files that the config names by
relative path (prompt sets, price list, class lists, templates, a model's JSON). Data, models, rewrite sets and outputs
do not travel: they need URLs, or absolute paths, which mean the cluster's. Secrets travel by name only.
"""

import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from laclip_ray.config import LocalPath
from laclip_ray.config.yaml_text import parse_yaml
from laclip_ray.errors import UserError
from laclip_ray.redaction import MARK, holds_secret, is_secret_name

MAX_FILE_BYTES = 10 * 2**20
"""Of one settings file."""

_ALL = frozenset({"output", "data", "rewrite", "text", "stream", "model", "train", "evaluate", "tune", "ray"})
_REWRITING = frozenset({"output", "data", "rewrite", "ray"})
_TRAINING = _ALL - {"evaluate", "tune"}
SECTIONS: Mapping[str, frozenset[str]] = {
    "rewrite": _REWRITING,
    "train": _TRAINING,
    "run": _TRAINING,
    "tune": _ALL,
    "evaluate": frozenset({"output", "data", "model", "train", "evaluate", "ray"}),
    "estimate": _REWRITING,
    "plan": _TRAINING,
    "doctor": _ALL,
}
"""The verbs that can be submitted, and the sections of the config whose paths they use."""

_GLOB = re.compile(r"[*?\[{]")


@dataclass(frozen=True)
class Variables:
    """The environment variables that a config names."""

    values: Mapping[str, str]
    """Those that travel, with their values."""
    by_name: tuple[str, ...]
    """Those with secrets: every node must have them in its environment."""


def choose_variables(names: Sequence[str], environment: Mapping[str, str]) -> Variables:
    """Send variables by value, but those with secrets by name.

    Args:
        names: of variables.
        environment: of this process.

    Raises:
        UserError: a variable that is no secret is not set.
    """
    secret = [name for name in names if is_secret_name(name) or holds_secret(environment.get(name, ""))]
    if missing := [name for name in names if name not in secret and name not in environment]:
        raise UserError(f"the environment variable {missing[0]} is not set here, so its value cannot travel; set it")
    return Variables({name: environment[name] for name in names if name not in secret}, tuple(secret))


def without_variables(content: Any, names: Collection[str]) -> Any:
    """A config's content with `***` for some variables: secrets that only the cluster has."""
    if isinstance(content, Mapping):
        return {key: without_variables(value, names) for key, value in content.items()}
    if isinstance(content, list):
        return [without_variables(value, names) for value in content]
    if isinstance(content, str):
        for name in names:
            content = content.replace(f"${{{name}}}", MARK)
    return content


def check_holds_no_secret(text: str, where: str, overrides: Sequence[str]) -> None:
    """Refuse a config or override with a secret by value: Ray stores and shows a submission.

    Args:
        text: of the config file.
        where: the file's path, for the message.
        overrides: `key=value` strings.

    Raises:
        UserError: with the key and the remedy.
    """
    remedy = "Write it as ${NAME} in the config, and give every node of the cluster the variable"
    for override in overrides:
        key, _, value = override.partition("=")
        # The value as YAML may be a mapping with keys of its own.
        leaves = (*_leaves(parse_yaml(value), key), (key, value))
        if any(holds_secret(leaf, name.rpartition(".")[2]) for name, leaf in leaves):
            raise UserError(f"override {key}: it holds a secret, and Ray shows a job's command line. {remedy}")
    for key, leaf in _leaves(parse_yaml(text), ""):
        if holds_secret(leaf, key.rpartition(".")[2]):
            raise UserError(f"{where}: {key} holds a secret, which does not travel. {remedy}")
    if holds_secret(text):
        raise UserError(f"{where}: the file holds a secret, perhaps in a comment. {remedy}")


def _leaves(content: Any, key: str) -> Iterator[tuple[str, str]]:
    """Every text of a nested value, after its dotted key."""
    if isinstance(content, Mapping):
        for name, value in content.items():
            yield from _leaves(value, f"{key}.{name}" if key else str(name))
    elif isinstance(content, list):
        for value in content:
            yield from _leaves(value, key)
    elif isinstance(content, str):
        yield key, content


def check_paths(paths: Sequence[LocalPath], working_dir: Path | None) -> list[str]:
    """The relative paths of settings files that must travel.

    Args:
        paths: of the experiment, in the sections that the verb uses.
        working_dir: the user's directory that travels as a whole; None: only settings files do.

    Raises:
        UserError: a relative path does not travel; the message has its key, the reason and the remedy.
    """
    settings: list[str] = []
    for each in paths:
        path = each.path
        if Path(path).is_absolute():
            continue
        if each.is_output:
            raise UserError(
                f"{each.key}: {each.path!r} is a relative path, and would be lost with the job's directory. Give a URL "
                "(s3://...), or an absolute path that every node sees (ray.shared_paths)"
            )
        if ".." in Path(path).parts:
            raise UserError(
                f"{each.key}: {each.path!r} leads out of the directory that travels. Submit from a directory above "
                "it, or give a URL or an absolute path of the cluster"
            )
        if working_dir is not None:
            _check_in(working_dir, each.key, path)
        elif not each.travels:
            raise UserError(
                f"{each.key}: {each.path!r} is a relative path, and data and models do not travel with a job. Give a "
                "URL (s3://...), or an absolute path that every node sees; small files travel with --working-dir"
            )
        if each.travels:
            settings.append(path)
    return list(dict.fromkeys(settings))


def _check_in(directory: Path, key: str, path: str) -> None:
    """Refuse a path that the directory does not have. For a glob, the part before its first wildcard counts."""
    parts = Path(path).parts
    fixed = next((parts[:index] for index, part in enumerate(parts) if _GLOB.search(part)), parts)
    if not directory.joinpath(*fixed).exists() and not _without_key(directory / path).exists():
        raise UserError(f"{key}: there is no {path} in {directory}, the directory that travels")


def _without_key(file: Path) -> Path:
    """`FILE.json#KEY` without the key."""
    return file if file.exists() else Path(str(file).partition("#")[0])


def read_settings(paths: Sequence[str], directory: Path) -> dict[str, bytes]:
    """Read the settings files that travel, by their path.

    Args:
        paths: relative to the directory.
        directory: the current one, or the one that travels.

    Raises:
        UserError: a file is missing, too large, or holds a secret.
    """
    files: dict[str, bytes] = {}
    for path in paths:
        file = _without_key(directory / path)
        name = file.relative_to(directory).as_posix()
        if not file.is_file():
            raise UserError(f"{path}: there is no such file in {directory}, and the config names it")
        if (size := file.stat().st_size) > MAX_FILE_BYTES:
            raise UserError(
                f"{path}: {size:,} bytes are too many for a settings file; store it where every node sees it"
            )
        files[name] = file.read_bytes()
        if holds_secret(files[name].decode(errors="replace")):
            raise UserError(f"{path}: the file holds a secret, which does not travel. Remove it")
    return files


def place_config(config: Path, directory: Path, others: Mapping[str, bytes]) -> str:
    """The path of the config file in the job's directory: its path in the current one, else its name.

    Args:
        config: its absolute path, without `..`.
        directory: the current one.
        others: the settings files that travel, by path.
    """
    if config.is_relative_to(directory):
        return config.relative_to(directory).as_posix()
    name = config.name
    while name in others:
        name = f"submitted-{name}"
    return name


def stage(files: Mapping[str, bytes], directory: Path) -> None:
    """Write files to their paths below a directory."""
    for path, content in files.items():
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def entry_point(python: str, verb: str, config: str, overrides: Sequence[str]) -> str:
    """The job's shell command.

    >>> entry_point("python", "train", "mine.yaml", ["text.p=[0, 1]"])
    "python -m laclip_ray train mine.yaml 'text.p=[0, 1]'"
    """
    return f"{python} {shlex.join(['-m', 'laclip_ray', verb, config, *overrides])}"
