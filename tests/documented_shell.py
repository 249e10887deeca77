"""Run a documented command in this process, or only parse it."""

import os
import shlex
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import typer


def run(command: str) -> None:
    """Run a command as a shell would, in this process.

    Raises:
        SystemExit: it ends with another exit code than 0.
    """
    words = shlex.split(os.path.expandvars(command))
    own = _values(takewhile(lambda word: "=" in word, words))
    match words[len(own) :]:
        case ["export", *variables]:
            os.environ.update(_values(variables))
        case ["mkdir", directory]:
            Path(directory).mkdir()
        case ["laclip", *arguments]:
            from laclip_ray.cli import main

            with patch.dict(os.environ, own):
                main(arguments)
        case _:
            raise AssertionError(f"no way to run {command}")


def _values(variables: Iterable[str]) -> dict[str, str]:
    return {name: value for name, _, value in (variable.partition("=") for variable in variables)}


def parse(words: Sequence[str]) -> str:
    """Parse a command of `laclip` without running it; its name.

    Options that act when they are parsed, such as `--install-completion`, act here too.

    Raises:
        click's UsageError: it has no such command, option or argument.
    """
    from laclip_ray.cli.app import app

    command: Any = typer.main.get_command(app)
    context = command.make_context("laclip", [*words])
    names = []
    while hasattr(command, "resolve_command"):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)
        names.append(name)
    return " ".join(names)


def options_of_commands() -> dict[str, set[str]]:
    """By name of a command or group, such as `rewrites inspect`: its options."""
    from laclip_ray.cli.app import app

    found: dict[str, set[str]] = {}

    def add(name: str, command: Any) -> None:
        found[name] = {"--help", *(option for each in command.params for option in (*each.opts, *each.secondary_opts))}
        for inner, each in getattr(command, "commands", {}).items():
            add(f"{name} {inner}".strip(), each)

    add("", typer.main.get_command(app))
    return found
