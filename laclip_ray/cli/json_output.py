"""One JSON object on standard output, for machines, without any other line."""

import dataclasses
import json
import math
import os
import sys
from collections.abc import Mapping, Set
from enum import Enum
from typing import Any, TextIO

from laclip_ray.redaction import redacted


def plain(value: Any) -> Any:
    """A value of JSON that stands for any value: objects by their fields, numbers that JSON lacks as null.

    >>> plain({"loss": float("nan"), "sets": {"b", "a"}})
    {'loss': None, 'sets': ['a', 'b']}
    """
    if isinstance(value, Enum):
        return plain(value.value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, Set):
        return sorted((plain(item) for item in value), key=str)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value) if field.repr}
    if callable(dump := getattr(value, "model_dump", None)):  # a section of the config
        return plain(dump(mode="json"))
    if callable(item := getattr(value, "item", None)):  # a number of numpy or torch
        return plain(item())
    return str(value)


def to_text(content: Mapping[str, Any]) -> str:
    """The object as JSON: without secrets, and valid whatever the content is."""
    return json.dumps(redacted(plain(content)), indent=2, allow_nan=False)


class StandardOutput:
    """The standard output of this process, kept for one object."""

    def __init__(self) -> None:
        """Leave standard output unchanged."""
        self._stream: TextIO | None = None
        self._descriptor: int | None = None

    def keep(self) -> None:
        """From now on, what this process and its children print on standard output goes to standard error.

        The file descriptor stays redirected until `give_back`: libraries print while the process ends, too.
        """
        stream = sys.stdout
        stream.flush()
        if not _is_of_the_process(stream):  # one of a test or a notebook
            self._stream, sys.stdout = stream, sys.stderr
        elif self._descriptor is None:
            self._descriptor = os.dup(1)
            os.dup2(2, 1)

    def write(self, text: str) -> None:
        """Write a text, with a line break, where standard output was."""
        if self._descriptor is None:
            print(text, file=self._stream or sys.stdout, flush=True)
            return
        with os.fdopen(os.dup(self._descriptor), "w", encoding="utf-8") as file:
            file.write(f"{text}\n")

    def end(self) -> None:
        """End one command. A stream of a test or a notebook is its `sys.stdout` again."""
        if self._stream is not None:
            sys.stdout, self._stream = self._stream, None

    def give_back(self) -> None:
        """Standard output is what it was, for a further command of this process."""
        self.end()
        if self._descriptor is not None:
            sys.stdout.flush()
            os.dup2(self._descriptor, 1)
            os.close(self._descriptor)
            self._descriptor = None


def _is_of_the_process(stream: TextIO) -> bool:
    try:
        return stream.fileno() == 1
    except (OSError, ValueError):
        return False
