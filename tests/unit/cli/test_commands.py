"""Every command has the common options, wherever they stand."""

from collections.abc import Iterator
from typing import Any

import pytest
import typer

from laclip_ray.cli import app as app_module
from laclip_ray.cli import main
from laclip_ray.cli.manner import Manner, manner


def commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """A command and all below it, each with its words after `laclip`."""
    yield words, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*words, name))


COMMANDS = dict(commands(typer.main.get_command(app_module.app)))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_shows_the_common_options_and_a_short_help_option(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    main([*words, "-h"])
    printed = capsys.readouterr().out
    for option in ("--json", "--quiet", "--debug", "-h", "--help"):
        assert option in printed


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["version"], Manner()),
        (["version", "--json"], Manner(json=True)),
        (["--quiet", "version"], Manner(quiet=True)),
        (["--debug", "version", "--json", "--quiet"], Manner(json=True, quiet=True, debug=True)),
        (["prompts", "--quiet", "list", "--debug"], Manner(quiet=True, debug=True)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_common_options_may_stand_before_and_after_the_name_of_a_command(words: list[str], expected: Manner) -> None:
    main(["--json", "--quiet", "--debug", "version"])
    main(words)
    assert manner() == expected


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version_is_an_option_too(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["version"])
    printed = capsys.readouterr().out
    main([option])
    assert capsys.readouterr().out == printed
