"""The streams that people read. While libraries' lines go to a log, they are not `sys.stdout` and `sys.stderr`."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO, cast


class _Proxy(io.TextIOBase):
    """The standard output of each moment, for objects that keep a stream."""

    def write(self, text: str) -> int:
        return out().write(text)

    def flush(self) -> None:
        out().flush()

    def isatty(self) -> bool:
        return out().isatty()

    def fileno(self) -> int:
        return out().fileno()

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return out().encoding or "utf-8"


class _Shown:
    out: TextIO | None = None
    err: TextIO | None = None


_shown = _Shown()


def out() -> TextIO:
    """Standard output, as the person who started the command sees it."""
    return _shown.out or sys.stdout


def err() -> TextIO:
    """Standard error, as the person who started the command sees it."""
    return _shown.err or sys.stderr


OUT = cast(TextIO, _Proxy())
"""Standard output, whichever stream it is when something is written."""


@contextmanager
def shown_on(new_out: TextIO, new_err: TextIO) -> Iterator[None]:
    """Use other streams while the body runs."""
    before = _shown.out, _shown.err
    _shown.out, _shown.err = new_out, new_err
    try:
        yield
    finally:
        _shown.out, _shown.err = before
