"""The classes of commands and groups. They give every command the common options, which `manner.manner()` returns."""

from functools import cache
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from laclip_ray.cli.manner import take_option

HELP_NAMES = ["-h", "--help"]
"""Commands inherit them from the group that they are called in."""

_PANEL = "Common options"


def _take(param: typer.CallbackParam, value: bool) -> bool:
    if value and param.name is not None:
        take_option(param.name)
    return value


def _common(option: str, help: str) -> Any:
    return typer.Option(option, help=help, callback=_take, expose_value=False, is_eager=True, rich_help_panel=_PANEL)


def _declaration(
    json: Annotated[bool, _common("--json", "Print one JSON object on standard output and nothing else.")] = False,
    quiet: Annotated[bool, _common("--quiet", "Print only warnings, errors and the last line.")] = False,
    debug: Annotated[bool, _common("--debug", "Show the log lines of Ray, vLLM and torch.")] = False,
) -> None:
    """Declare the common options; never called."""


@cache
def _common_options() -> list[Any]:
    declared = typer.Typer(add_completion=False)
    declared.command()(_declaration)
    return typer.main.get_command(declared).params


class Verb(TyperCommand):
    """A command with the common options."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        """Add the common options to the command's own; see typer."""
        super().__init__(*arguments, **settings)
        self.params.extend(_common_options())


class Group(TyperGroup):
    """A group of commands. The common options may also stand before the command's name."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        """Add the common options to the group's own; see typer."""
        super().__init__(*arguments, **settings)
        self.params.extend(_common_options())


def group(help: str, **settings: Any) -> typer.Typer:
    """A group without commands, which prints its help if it is called without one.

    Args:
        help: one sentence.
        settings: of `typer.Typer`.
    """
    defaults = {
        "add_completion": False,
        "context_settings": {"help_option_names": HELP_NAMES},
        "pretty_exceptions_enable": False,
    }
    return typer.Typer(cls=Group, no_args_is_help=True, help=help, **{**defaults, **settings})
