"""How the running command talks: the common options of the command line, readable from every verb."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Manner:
    """The common options of a command."""

    json: bool = False
    """Standard output carries one JSON object alone."""
    quiet: bool = False
    """Only warnings, errors and the last line are printed."""
    debug: bool = False
    """Log lines of Ray, vLLM and torch are shown."""


_current = Manner()


def manner() -> Manner:
    """The manner of the running command; the default one outside a command."""
    return _current


def begin_command() -> None:
    """Forget the manner of an earlier command of this process."""
    global _current
    _current = Manner()


def take_option(name: str) -> None:
    """Switch a field of the manner on.

    Args:
        name: of a field of `Manner`.
    """
    global _current
    _current = replace(_current, **{name: True})
