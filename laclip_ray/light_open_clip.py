"""open_clip, imported without transformers.

Importing transformers takes half of open_clip's time, and only text towers from transformers need it.

Guarantees: a model with such a text tower still loads. Building its tower imports transformers.

Not covered: `generate` of CoCa, which asks for transformers in a process that imported open_clip from here first. A
thread that imports transformers while this module imports open_clip is told that they are not installed.
"""

import functools
import importlib
import sys
from collections.abc import Callable
from typing import Any


def _import_open_clip() -> Any:
    if {"open_clip", "transformers"} & sys.modules.keys():
        return importlib.import_module("open_clip")
    sys.modules["transformers"] = None  # type: ignore[assignment]  # Python's way to say that it is not installed
    try:
        package: Any = importlib.import_module("open_clip")
    finally:
        del sys.modules["transformers"]
    _complete_later(package.hf_model)
    return package


def _complete_later(hf_model: Any) -> None:
    """Import transformers into open_clip's module of text towers when the first tower is built."""
    tower = hf_model.HFTextEncoder
    build = tower.__init__

    @functools.wraps(build)
    def import_and_build(self: Any, *args: Any, **options: Any) -> None:
        if hf_model.transformers is None:
            importlib.reload(hf_model)  # runs it again in the same namespace, which `build` uses, too
        build(self, *args, **options)

    tower.__init__ = import_and_build


open_clip = _import_open_clip()
"""The package. All other modules take it from here."""


def build(kind: Callable[..., Any], *arguments: Any) -> Any:
    """Build an object. A pickle that names this function imports this module before it reads the arguments."""
    return kind(*arguments)
