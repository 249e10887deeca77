"""The end of a verb: result, places and next commands, for a person or as one JSON object."""

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from laclip_ray.cli.json_output import StandardOutput, to_text
from laclip_ray.cli.manner import manner
from laclip_ray.cli.next_steps import Step
from laclip_ray.cli.settings import settings
from laclip_ray.endings.job_log import meaning_of
from laclip_ray.printable import printable_line
from laclip_ray.redaction import redact

_WIDEST_COMMAND = 80
"""Upper bound on the width of the column of commands, in characters."""
_FOUND = ("done", "nothing_to_do", "outputs", "summary", "next")
"""The fields that a verb adds to its JSON object, in this order."""


@dataclass(frozen=True)
class Ending:
    """The end of a verb whose work is complete."""

    done: str
    """One line with the result and its place."""
    outputs: Mapping[str, str | None] = field(default_factory=dict)
    """Paths and URLs that the verb wrote or read, by name. None: not written."""
    summary: Mapping[str, Any] = field(default_factory=dict)
    """Counts and results, of any types that `json_output.plain` takes."""
    next: Sequence[Step] = ()
    """Commands that make sense now."""
    nothing_to_do: bool = False
    """Whether an earlier call had done everything."""
    is_in_details: bool = False
    """Whether the details say all of `done`, so that it is printed only without them."""


class _Command:
    """The running command of this process."""

    def __init__(self) -> None:
        self.verb: str | None = None
        """Its words after `laclip`, without arguments. None: no verb has begun."""
        self.found: dict[str, Any] = {}
        """What the JSON object says of it."""
        self.error: str | None = None


class _Now:
    command = _Command()


_standard_output = StandardOutput()


def begin_verb(verb: str) -> None:
    """Begin a verb, in the manner of its common options.

    Args:
        verb: its words after `laclip`, such as `data check`.
    """
    _Now.command.verb = verb
    logging.getLogger("laclip_ray").setLevel(logging.WARNING if manner().quiet else logging.INFO)
    if manner().json:
        _standard_output.keep()


def forget_command() -> None:
    """Forget an earlier command of this process."""
    settings.clear()
    _standard_output.give_back()
    _Now.command = _Command()


def announce(text: str, **outputs: str) -> None:
    """Print the first words of a verb on standard error, before it imports its libraries: for people.

    Args:
        text: its input and output, such as `pictures.yaml -> /runs/pictures`.
        outputs: where it writes, for its JSON object, if it does not end well.
    """
    record(outputs=outputs)
    if not (manner().quiet or manner().json):
        print(printable_line(redact(f"laclip {_Now.command.verb}: {text}")), file=sys.stderr, flush=True)


def record(**found: Any) -> None:
    """Add to the JSON object of the running verb, however it ends.

    Args:
        found: fields of it, such as `summary` and `outputs`, as in `Ending`.
    """
    _Now.command.found |= found


def fail(message: str) -> None:
    """Note the error that ends the running command, for its JSON object."""
    _Now.command.error = message


def finish(ending: Ending, details: Callable[[], None] = lambda: None) -> None:
    """Print how a verb has ended. Under `--json`, `end_command` does that at the end of the command.

    Args:
        ending: of the verb.
        details: prints tables and the like; not called under `--json` and `--quiet`.
    """
    record(
        done=ending.done,
        nothing_to_do=ending.nothing_to_do,
        outputs=ending.outputs,
        summary=ending.summary,
        next=[step.command for step in ending.next],
    )
    if manner().json:
        return
    done = printable_line(redact(ending.done))
    if manner().quiet:
        print(done, flush=True)
        return
    if ending.nothing_to_do:
        print(done, flush=True)
        details()
    else:
        details()
        if not ending.is_in_details:
            print(done, flush=True)
    for line in _lines(ending.next):
        print(printable_line(redact(line)))
    sys.stdout.flush()


def _lines(steps: Sequence[Step]) -> list[str]:
    """The commands that come next, with their reasons beside them, in a column if they are short."""
    longest = max((len(step.command) for step in steps), default=0)
    width = longest if longest <= _WIDEST_COMMAND else 0
    return ["next:", *(f"  {step.command:{width}}  # {step.why}" for step in steps)] if steps else []


def end_command(exit_code: int) -> None:
    """End the command. Under `--json`, print its object: of a verb, or of a mistake in the command line.

    Args:
        exit_code: of the command.
    """
    if manner().json and (_Now.command.verb is not None or _Now.command.error is not None):
        _standard_output.write(to_text(_object(exit_code)))
    _standard_output.end()


def _object(exit_code: int) -> dict[str, Any]:
    return {
        "verb": _Now.command.verb,
        "exit_code": exit_code,
        "outcome": meaning_of(exit_code),
        **({} if _Now.command.error is None else {"error": _Now.command.error}),
        **{name: _Now.command.found[name] for name in _FOUND if name in _Now.command.found},
    }
