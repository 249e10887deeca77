"""The classes of commands and groups. They give every command the common options, which `manner.manner()` returns."""

from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from laclip_ray.cli.ending import begin_verb
from laclip_ray.cli.manner import manner, take_option
from laclip_ray.cli.options import console
from laclip_ray.endings.job_log import meaning_of
from laclip_ray.errors import ExitCode
from laclip_ray.nearest import did_you_mean

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

    def invoke(self, ctx: Any) -> Any:
        """Run the command, and print in the manner of its common options."""
        begin_verb(ctx.command_path.partition(" ")[2])
        console.quiet = manner().json or manner().quiet
        return super().invoke(ctx)


class Group(TyperGroup):
    """A group of commands. The common options may also stand before the command's name."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        """Add the common options to the group's own; see typer."""
        super().__init__(*arguments, **settings)
        self.params.extend(_common_options())

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that an argument names; an unknown one is refused with the nearest."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-") and not ctx.resilient_parsing:
            ctx.fail(f"there is no verb {name!r}{did_you_mean(name, self.commands)}")
        return super().resolve_command(ctx, args)


def group(help: str, example: str, errors: Sequence[ExitCode], **settings: Any) -> typer.Typer:
    """A group without commands, which prints its help if it is called without one.

    Args:
        help: one sentence.
        example: a command line.
        errors: exit codes besides those of every command.
        settings: of `typer.Typer`.
    """
    defaults = {
        "add_completion": False,
        "context_settings": {"help_option_names": HELP_NAMES},
        "pretty_exceptions_enable": False,
    }
    epilog = exit_codes(example, errors)
    return typer.Typer(cls=Group, no_args_is_help=True, help=help, epilog=epilog, **{**defaults, **settings})


def exit_codes(example: str, errors: Sequence[ExitCode]) -> str:
    """The end of a command's help: an example, and the exit codes that the command can end with.

    Args:
        example: a command line.
        errors: exit codes besides those of every command.
    """
    codes = [ExitCode.COMPLETE, *errors, ExitCode.FAILED, ExitCode.INTERRUPTED, ExitCode.TERMINATED]
    meanings = ", ".join(f"{code:d} {meaning_of(code)}" for code in codes)
    return f"Example: {example}\n\nExit codes: {meanings}".replace("[", "\\[")
