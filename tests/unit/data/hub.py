"""A Hugging Face Hub in memory, for the protocol `hf`."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

PAGE, URL = "https://huggingface.co/datasets/org/own/tree/main", "hf://datasets/org/own@main"
"""A page of a data set, and its URL."""


class _Hub(MemoryFileSystem):  # type: ignore[misc]
    protocol = "hf"
    root_marker = ""
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        stripped: str = super()._strip_protocol(path.removeprefix("hf://"))
        return stripped

    def unstrip_protocol(self, name: str) -> str:
        return f"hf://{name.removeprefix('hf://').lstrip('/')}"


@contextmanager
def hub(files: Mapping[str, bytes]) -> Iterator[None]:
    """Hold these files of the data set, by their paths below its page."""
    known = _registry.get("hf")
    fsspec.register_implementation("hf", _Hub, clobber=True)
    _Hub.store.clear()
    fsspec.filesystem("hf").pipe({f"{URL}/{name}": content for name, content in files.items()})
    try:
        yield
    finally:
        _registry.pop("hf")
        if known is not None:
            fsspec.register_implementation("hf", known, clobber=True)
