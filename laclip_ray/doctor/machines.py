"""The versions, disk and shared memory of a machine. Runs here, and as a task on each node of a cluster."""

import os
import platform
import shutil
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

from laclip_ray.doctor.locks import normalised

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Ray keeps its objects
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass(frozen=True)
class Space:
    """Room in a directory."""

    path: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class Machine:
    """One machine, as a process on it sees it."""

    name: str
    python: str
    packages: Mapping[str, str]
    """Versions of all installed packages, by normalised name."""
    temporary: Space
    """Ray's temporary directory, where objects spill to."""
    shared_memory: Space | None
    """None on systems without it, such as macOS."""
    memory_bytes: int


def this_machine() -> Machine:
    """The machine of this process."""
    directory = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - as Ray chooses it
    return Machine(
        socket.gethostname(),
        platform.python_version(),
        installed_packages(),
        _space(Path(directory)),
        _space(_SHARED_MEMORY) if _SHARED_MEMORY.is_dir() else None,
        _memory_bytes(),
    )


def installed_packages() -> dict[str, str]:
    """The versions of all packages that this process can import, by normalised name."""
    found: dict[str, str] = {}
    for distribution in distributions():
        name = distribution.metadata["Name"]
        if name:  # a damaged installation lacks it
            found.setdefault(normalised(name), distribution.version)  # the first one is imported
    return found


def _space(path: Path) -> Space:
    existing = next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())
    usage = shutil.disk_usage(existing)
    return Space(str(path), usage.total, usage.free)


def _memory_bytes() -> int:
    """Memory that this process's container may use, or the machine's."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit in _CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # `max` is no number
            memory = min(memory, int(limit.read_text()))
    return memory
