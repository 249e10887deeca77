"""Facts about a config field, written beside its type: `path: Annotated[str, InputPath()]`.

Validation ignores markers. `facts.walk` finds them, and these parts of the package act on them:

    InputPath, OutputPath               loading.with_absolute_paths; submitting: what travels with a job?
    InputPath                           cluster.connect: can every node see it?
    MayChangeOnResume                   training: is a directory's run this run?
    CanBeSwept, FixedInSweep            tuning: which keys may `tune.space` name?
    SharedBySweep                       tuning: is a directory's sweep this sweep?
    DecidesRecipe                       docs/settings.md; a test holds it to the recipe of a rewrite set
    ChangesNoVerdict                    rewriting: the fingerprint of a gate
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

DIRECTORY_PREFIX = "local-dir:"
"""open_clip's mark of a local model directory."""

HUB_PREFIX = "hf-hub:"
"""open_clip's mark of a model on the Hugging Face Hub."""

WEIGHTS_SUFFIXES = (".pt", ".pth", ".pth.tar", ".bin", ".safetensors")
"""Suffixes of checkpoint files."""


class Marker:
    """Base of all markers."""


def always(value: str) -> bool:
    """For fields that only take paths and URLs."""
    return True


def ends_with(*suffixes: str) -> Callable[[str], bool]:
    """For fields that take files with a known suffix, and names."""
    return lambda value: value.endswith(suffixes)


def is_none_of(*names: str) -> Callable[[str], bool]:
    """For fields that take files, and these names."""
    return lambda value: value not in names


def exists(value: str) -> bool:
    """For fields that take files or directories, and names without a common form."""
    return Path(value).exists()


def is_weights_file(value: str) -> bool:
    """For fields that take checkpoint files, and open_clip's tags of weights."""
    return value.endswith(WEIGHTS_SUFFIXES) or Path(value).is_file()


def is_clip_path(value: str) -> bool:
    """For fields that take CLIP model directories, checkpoint files, names of open_clip (no slash), and Hub models."""
    if value.startswith(HUB_PREFIX):
        return False
    is_marked = value.startswith(DIRECTORY_PREFIX) or value.endswith(WEIGHTS_SUFFIXES)
    return is_marked or "/" in value or Path(value).is_dir()


@dataclass(frozen=True)
class InputPath(Marker):
    """The value, or each item of a list, locates something to read."""

    is_path: Callable[[str], bool] = always
    """Tells paths from the names that the field also takes."""
    is_name_if: str | None = None
    """Another key of the section. If it is set, the value is a name."""
    travels: bool = False
    """A small file of settings, such as a prompt set. It travels with a submitted job if its path is relative."""
    is_read_on_nodes: bool = True
    """Whether tasks and actors of Ray read it. The driver alone reads the others."""


@dataclass(frozen=True)
class OutputPath(Marker):
    """The value locates a directory to write to."""


@dataclass(frozen=True)
class MayChangeOnResume(Marker):
    """The value may differ between two starts of one training run."""


@dataclass(frozen=True)
class CanBeSwept(Marker):
    """`tune.space` may name the fields of this section, except those marked `FixedInSweep`."""


@dataclass(frozen=True)
class FixedInSweep(Marker):
    """The sweep computes with the value, so all of its runs have the same one."""


@dataclass(frozen=True)
class SharedBySweep(Marker):
    """Runs in a sweep's directory have equal values, unless the field is swept.

    At a section it covers every field without `MayChangeOnResume`.
    """


@dataclass(frozen=True)
class DecidesRecipe(Marker):
    """The value decides what the language model writes, so the recipe of a rewrite set has it."""


@dataclass(frozen=True)
class ChangesNoVerdict(Marker):
    """The value decides how fast a gate judges, never its verdict."""
