"""Mistakes in a command line itself, as one sentence each: an unknown verb or option, a missing or wrong value."""

import re
from typing import Any

from laclip_ray.nearest import did_you_mean
from laclip_ray.printable import printable_line

_QUOTED = re.compile(r"'([^']*)'")
_CHOICE = re.compile(r"'(?P<given>[^']*)' is not one of (?P<known>'.*')")


def usage_message(error: Any) -> str | None:
    """The message about a usage error of typer. None: it stands for the help of a group without a command.

    Args:
        error: one of typer's errors that has `show`.
    """
    if type(error).__name__ == "NoArgsIsHelpError":
        return None
    context = getattr(error, "ctx", None)
    command = "laclip" if context is None else context.command_path
    problem = _problem(error)
    stop = "" if problem.endswith("?") else "."
    return printable_line(f"{command}: {problem}{stop} `{command} -h` shows what it takes")


def _problem(error: Any) -> str:
    if possible := getattr(error, "possibilities", None):
        return f"there is no option {error.option_name}{did_you_mean(error.option_name, possible)}"
    text = " ".join(str(error.format_message()).split()).replace("Value error, ", "").rstrip(".")
    text = f"{text[:1].lower()}{text[1:]}"
    if match := _CHOICE.search(text):
        return f"{text}{did_you_mean(match['given'], _QUOTED.findall(match['known']))}"
    return text
