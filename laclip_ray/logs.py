"""Log lines and messages of a process: without secrets, and without control characters from data."""

import logging
from typing import TextIO

from laclip_ray import terminal
from laclip_ray.printable import printable
from laclip_ray.redaction import redact


def clean(text: str) -> str:
    """The text for a terminal or a log file: secrets become `***`, control characters escape sequences."""
    return printable(redact(text))


class CleanFormatter(logging.Formatter):
    """Formats a record, then cleans the whole text: message, arguments and traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as clean text."""
        return clean(super().format(record))


class _TerminalHandler(logging.StreamHandler[TextIO]):
    """Writes to the standard error that people read, which changes while a status is shown."""

    @property
    def stream(self) -> TextIO:
        """The stream of now."""
        return terminal.err()

    @stream.setter
    def stream(self, _: TextIO) -> None:
        """The base class sets a stream, which is not used."""


def set_up_logging() -> None:
    """Log warnings of all libraries and this package's progress to standard error, cleaned."""
    handler = _TerminalHandler()
    handler.setFormatter(CleanFormatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("laclip_ray").setLevel(logging.INFO)


def clean_records_of_this_process() -> None:
    """Clean the messages of all records from now on, for processes whose log handlers belong to Ray.

    Tracebacks are not covered.
    """
    logging.setLogRecordFactory(_clean_record)


def _clean_record(*args: object, **kwargs: object) -> logging.LogRecord:
    record = logging.LogRecord(*args, **kwargs)  # type: ignore[arg-type]
    if record.name.startswith("laclip_ray"):
        record.msg, record.args = clean(record.getMessage()), None
    return record
