"""Send the lines of libraries to a log file, and keep the terminal for ours.

Ray prints the lines of its workers, vLLM and torch print their own, some from C++. While a capture is open, file
descriptors 1 and 2 are the log file, `sys.stdout` and `sys.stderr` sort lines, and `terminal.out()` and `err()` still
reach the person. Forwarded progress messages do not reach the file.

The file begins in the temporary directory. Once work has begun it moves to `OUTPUT/logs/`; at a URL it is put there
whole, now and then and at the end. A capture whose work never began, and that ended well, leaves no file.

Guarantees: a file that cannot be written never ends a run. Lines lose control characters and secrets.
"""

import contextlib
import io
import logging
import os
import re
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TextIO

from laclip_ray import storage, terminal
from laclip_ray.logs import clean
from laclip_ray.progress import message_in
from laclip_ray.progress.messages import Message

logger = logging.getLogger(__name__)

LOGS_DIRECTORY = "logs"
"""Below the output of a verb."""
_LINES_KEPT = 20
"""Newest lines kept of each process, shown when it fails."""
_PROCESSES_KEPT = 512
_UPLOAD_PERIOD_S = 300.0
_UPLOAD_LIMIT_BYTES = 64 * 2**20
"""Larger logs are put at a URL only at the end."""
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_SOURCE = re.compile(r"^\((?P<name>[^()]{1,120}? pid=(?P<pid>\d+))[^()]*\) ?(?P<text>.*)$")
"""Ray's prefix of a worker's line, as `(RewritingActor pid=4711, ip=10.0.0.3)`."""


class _Sorter(io.TextIOBase):
    """Takes the place of `sys.stdout` or `sys.stderr`: gives whole lines to the capture."""

    def __init__(self, take: Callable[[str], None], descriptor: int) -> None:
        self._take = take
        self._descriptor = descriptor
        self._rest = ""
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        with self._lock:
            *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._take(line)
        return len(text)

    def flush(self) -> None:
        """Do nothing: lines are taken whole."""

    def end(self) -> None:
        """Take an unfinished line."""
        if self._rest:
            self.write("\n")

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"


class Capture:
    """The log file of one verb, and the newest lines of each process."""

    def __init__(self, verb: str, on_message: Callable[[Message], None], shows_all: bool = False) -> None:
        """Open the file.

        Args:
            verb: names the file.
            on_message: gets forwarded progress messages.
            shows_all: libraries' lines also reach the terminal (`--debug`).
        """
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{verb.replace(' ', '-')}"
        descriptor, path = tempfile.mkstemp(prefix=f"laclip-{name}-", suffix=".log")
        self.path = Path(path)
        """Where the file is now."""
        self.url: str | None = None
        """Where users find it; None: only in the temporary directory."""
        self._name = f"{name}.log"
        self._file: IO[bytes] = os.fdopen(descriptor, "ab", buffering=0)
        self._on_message = on_message
        self._shows_all = shows_all
        self._newest: dict[str, deque[str]] = {}
        self._uploaded_s = time.monotonic()
        self._has_failed = False
        self._lock = threading.RLock()

    @contextmanager
    def open(self) -> Iterator[None]:
        """Send libraries' lines to the file while the body runs."""
        before_out, before_err = sys.stdout, sys.stderr
        before_out.flush()
        before_err.flush()
        sorters = _Sorter(self._take, 1), _Sorter(self._take, 2)
        with _duplicate(1) as saved_out, _duplicate(2) as saved_err, contextlib.ExitStack() as streams:
            # A stream of a test's or a notebook's own stays in use.
            out = streams.enter_context(_stream_on(saved_out, before_out)) if _is_on(before_out, 1) else before_out
            err = streams.enter_context(_stream_on(saved_err, before_err)) if _is_on(before_err, 2) else before_err
            try:
                if not self._shows_all:
                    self._redirect()
                sys.stdout, sys.stderr = sorters
                with terminal.shown_on(out, err):
                    yield
            finally:
                for sorter in sorters:
                    sorter.end()
                sys.stdout, sys.stderr = before_out, before_err
                os.dup2(saved_out, 1)
                os.dup2(saved_err, 2)

    def settle(self, output: str) -> None:
        """Move the file to the logs of an output; only the first call does."""
        with self._lock, self._tried():
            if self.url is not None:
                return
            url = storage.join(output, LOGS_DIRECTORY, self._name)
            if storage.is_local(output):
                target = Path(storage.filesystem(url)[1])
                target.parent.mkdir(parents=True, exist_ok=True)
                file = target.open("xb", buffering=0)
                file.write(self.path.read_bytes())
                before, self._file = self._file, file
                if not self._shows_all:
                    self._redirect()
                before.close()
                self.path.unlink()
                self.path = target
            self.url = url

    def upload(self, is_end: bool = False) -> None:
        """Put the file at its URL if it is time."""
        if self.url is None or storage.is_local(self.url):
            return
        is_due = time.monotonic() - self._uploaded_s >= _UPLOAD_PERIOD_S
        with self._tried():
            if is_end or (is_due and self.path.stat().st_size <= _UPLOAD_LIMIT_BYTES):
                self._uploaded_s = time.monotonic()
                storage.write_bytes(self.url, self.path.read_bytes())

    def close(self, keeps: bool) -> None:
        """Close the file.

        Args:
            keeps: whether a file in the temporary directory stays, because the verb failed.
        """
        self.upload(is_end=True)
        with self._tried():
            self._file.close()
            is_uploaded = self.url is not None and not storage.is_local(self.url) and not self._has_failed
            if is_uploaded or (self.url is None and (not keeps or not self.path.stat().st_size)):
                self.path.unlink()

    def newest_lines(self, texts: list[str]) -> dict[str, list[str]]:
        """The newest lines of failed processes.

        Args:
            texts: of the error and its causes. A process whose pid they name has failed.

        Returns:
            By process. If the texts name no process, the process that last printed an
            error; else the newest lines of all.
        """
        named = {pid for text in texts for pid in re.findall(r"\bpid[=: ]+(\d+)", text)}
        with self._lock:
            found = {name: list(lines) for name, lines in self._newest.items() if name.rpartition("=")[2] in named}
            if found:
                return found
            for name, lines in reversed(self._newest.items()):
                if any(_tells_of_error(line) for line in lines):
                    return {name: list(lines)}
        # An engine that this process started writes to the file itself.
        lines_of_all: list[str] = []
        with contextlib.suppress(OSError):
            lines_of_all = self.path.read_text("utf-8", "replace").splitlines()[-_LINES_KEPT:]
        return {"the log": [clean(_ESCAPES.sub("", line)) for line in lines_of_all]} if lines_of_all else {}

    def _take(self, line: str) -> None:
        """Sort one line."""
        text = clean(_ESCAPES.sub("", line.replace("\r", "")))  # progress bars return to the line's start
        if (message := message_in(text)) is not None:
            self._on_message(message)
            return
        with self._lock:
            if (source := _SOURCE.match(text)) is not None:
                lines = self._newest.pop(source["name"], None) or deque(maxlen=_LINES_KEPT)
                lines.append(source["text"])
                self._newest[source["name"]] = lines  # the newest process is the last
                if len(self._newest) > _PROCESSES_KEPT:
                    del self._newest[next(iter(self._newest))]
            with self._tried():
                self._file.write(f"{text}\n".encode("utf-8", "backslashreplace"))
        if self._shows_all:
            print(text, file=terminal.err(), flush=True)

    def _redirect(self) -> None:
        os.dup2(self._file.fileno(), 1)
        os.dup2(self._file.fileno(), 2)

    @contextmanager
    def _tried(self) -> Iterator[None]:
        """Report the first failure of the file, and continue without it."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - file systems raise many types
            if not self._has_failed:
                self._has_failed = True
                logger.warning("the log %s cannot be written, and the run continues: %s", self.url or self.path, error)


def _tells_of_error(line: str) -> bool:
    return bool(re.search(r"\b(?:Traceback|[A-Za-z]*Error|Fatal|CRITICAL|ERROR|Exception)\b", line))


@contextmanager
def _duplicate(descriptor: int) -> Iterator[int]:
    """A second descriptor of the same file."""
    duplicate = os.dup(descriptor)
    try:
        yield duplicate
    finally:
        os.close(duplicate)


def _is_on(stream: TextIO, descriptor: int) -> bool:
    """Whether a stream writes to a descriptor."""
    try:
        return stream.fileno() == descriptor
    except (OSError, ValueError):
        return False


@contextmanager
def _stream_on(descriptor: int, like: TextIO) -> Iterator[TextIO]:
    """A stream on a descriptor, which stays open."""
    with open(
        descriptor, "w", buffering=1, encoding=like.encoding or "utf-8", errors="backslashreplace", closefd=False
    ) as stream:
        yield stream
