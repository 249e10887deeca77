"""Show a board: a status that moves on a terminal, a plain line every 30 s elsewhere."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO, cast

from rich.console import Console, Group
from rich.file_proxy import FileProxy
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from laclip_ray import terminal
from laclip_ray.live.board import Board
from laclip_ray.live.wording import lines_of, phase_end
from laclip_ray.progress.messages import Message

_REFRESHES_PER_S = 4
_PLAIN_PERIOD_S = 30.0
"""Time between two plain lines of the same work."""
_TICK_S = 1.0
_BAR_WIDTH = 24
_SHORTEST_SHOWN_S = 0.5
"""A shorter phase leaves no line."""


class Screen:
    """Takes messages from any thread, and shows their content on standard error."""

    def __init__(
        self, is_quiet: bool = False, is_plain: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Prepare.

        Args:
            is_quiet: print no line.
            is_plain: show plain lines on a terminal too, between the lines of a `--debug` run.
            clock: gives seconds.
        """
        self._board = Board(clock())
        self._is_quiet = is_quiet
        self._is_plain = is_plain
        self._clock = clock
        self._lock = threading.Lock()
        self._plain_s = clock()

    def take(self, message: Message) -> None:
        """Add a message; print the line that an ended phase leaves."""
        with self._lock:
            ended = self._board.take(message, self._clock())
        if ended is not None and ended.elapsed_s >= _SHORTEST_SHOWN_S:
            self._print(phase_end(ended))

    @contextmanager
    def open(self) -> Iterator[None]:
        """Show the board while the body runs. Inside a capture: it uses the streams of `terminal`."""
        if self._is_quiet:
            yield
        elif not self._is_plain and _moves(terminal.err()):
            with self._live():
                yield
        else:
            with self._ticking():
                yield

    @contextmanager
    def _live(self) -> Iterator[None]:
        err, out = terminal.err(), terminal.out()
        console = Console(file=err)
        live = Live(
            get_renderable=self._render,
            console=console,
            refresh_per_second=_REFRESHES_PER_S,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        with live, contextlib.ExitStack() as streams:
            # Lines that others print stand above the status.
            above = cast(TextIO, FileProxy(console, err))
            streams.callback(above.flush)
            streams.enter_context(terminal.shown_on(above if out.isatty() else out, above))
            yield

    def _render(self) -> Group:
        with self._lock:
            lines = lines_of(self._board, self._clock())
        table = Table.grid(padding=(0, 1))
        for line in lines:
            if line.done_share is None:
                table.add_row(_SPINNER, Text(line.name), Text(line.details))
            else:
                bar = ProgressBar(total=1.0, completed=line.done_share, width=_BAR_WIDTH)
                table.add_row(bar, Text(line.name), Text(line.details))
        return Group(table)

    @contextmanager
    def _ticking(self) -> Iterator[None]:
        is_over = threading.Event()

        def tick() -> None:
            while not is_over.wait(_TICK_S):
                self.print_if_due()

        ticker = threading.Thread(target=tick, daemon=True, name="status")
        ticker.start()
        try:
            yield
        finally:
            is_over.set()
            ticker.join()

    def print_if_due(self) -> None:
        """Print a plain line for each piece of work, if the last ones are old."""
        now_s = self._clock()
        if now_s - self._plain_s < _PLAIN_PERIOD_S:
            return
        self._plain_s = now_s
        with self._lock:
            lines = lines_of(self._board, now_s)
        for line in lines:
            self._print(str(line))

    def _print(self, line: str) -> None:
        if not self._is_quiet:
            print(line, file=terminal.err(), flush=True)


def _moves(stream: TextIO) -> bool:
    """Whether a stream is a terminal that can move its cursor."""
    return stream.isatty() and not Console(file=stream).is_dumb_terminal


_SPINNER = Spinner("dots")
