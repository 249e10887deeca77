"""The versions that the package was tested with: a lock in `requirements/`, else the pins of its metadata. Pure but for
reading these files."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires
from pathlib import Path

_PACKAGE = "laclip-ray"
_ROOT = Path(__file__).parents[2]
"""The checkout, if this is one."""
_PINNED = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*==\s*(?P<version>[^\s;,\\]+)")
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*")
_BOUND = re.compile(r"(?P<sign>>=|<=|==|<|>)\s*(?P<version>\d+(?:\.\d+)*)")


@dataclass(frozen=True)
class Lock:
    """Versions by package."""

    origin: str
    """Where they come from, for messages."""
    versions: Mapping[str, str]
    """By normalised name."""
    required: frozenset[str]
    """The normalised names of packages that every verb needs."""
    python: str
    """The supported versions of Python, such as `>=3.11,<3.13`."""


def normalised(name: str) -> str:
    """A package's name as indexes compare names.

    >>> normalised("Open_CLIP.torch")
    'open-clip-torch'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def read_lock(has_gpu_build: bool, root: Path = _ROOT) -> Lock:
    """The lock of this checkout; without a checkout, the pins of the installed package.

    Args:
        has_gpu_build: whether the environment has vLLM's build for GPUs, which has a lock of its own.
        root: the checkout.
    """
    file = root / "requirements" / f"{'gpu' if has_gpu_build else 'cpu'}.lock"
    requirements, python = _declared(root)
    required = frozenset(normalised(match[0]) for line in requirements if (match := _NAME.match(line)))
    if file.is_file():
        return Lock(f"requirements/{file.name}", parse_pins(file.read_text().splitlines()), required, python)
    return Lock("the package's own pins (there is no lock here)", parse_pins(requirements), required, python)


def parse_pins(lines: Iterable[str]) -> dict[str, str]:
    """The exact versions among requirements, by normalised name.

    >>> parse_pins(["ray[data]==2.60.0", "numpy>=2", "# a comment"])
    {'ray': '2.60.0'}
    """
    return {normalised(match["name"]): match["version"] for line in lines if (match := _PINNED.match(line.strip()))}


def _declared(root: Path) -> tuple[list[str], str]:
    """The requirements of the package and its versions of Python: of the checkout, else of the installed package."""
    project = root / "pyproject.toml"
    if project.is_file():
        content = tomllib.loads(project.read_text())["project"]
        if normalised(str(content.get("name", ""))) == _PACKAGE:
            return list(content["dependencies"]), str(content["requires-python"])
    try:
        listed = [line for line in requires(_PACKAGE) or [] if "extra ==" not in line]
        return listed, str(metadata(_PACKAGE)["Requires-Python"] or "")
    except PackageNotFoundError:
        return [], ""


def satisfies(version: str, bounds: str) -> bool:
    """Whether a version of Python lies within bounds.

    >>> satisfies("3.11.9", ">=3.11,<3.13"), satisfies("3.13.0", ">=3.11,<3.13")
    (True, False)
    """
    own = _numbers(version)
    return all(_holds(own, match["sign"], _numbers(match["version"])) for match in _BOUND.finditer(bounds))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))[:3]


def _holds(own: tuple[int, ...], sign: str, bound: tuple[int, ...]) -> bool:
    cut = own[: len(bound)] if sign in ("==", "<=", ">") else own
    return {">=": own >= bound, "<": own < bound, "==": cut == bound, "<=": cut <= bound, ">": cut > bound}[sign]
