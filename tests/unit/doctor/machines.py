"""Machines as checks see them."""

from dataclasses import replace
from typing import Any

from laclip_ray.doctor.locks import Lock
from laclip_ray.doctor.machines import Machine, Space

GIB = 2**30
PACKAGES = {"ray": "2.60.0", "torch": "2.13.0"}
LOCK = Lock("requirements/cpu.lock", PACKAGES, frozenset(PACKAGES), ">=3.11,<3.13")
MACHINE = Machine(
    "host",
    "3.11.9",
    PACKAGES,
    Space("/disk", 100 * GIB, 80 * GIB),
    Space("/shm", 20 * GIB, 20 * GIB),
    32 * GIB,
)


def machine(**changes: Any) -> Machine:
    """A good machine with changes."""
    return replace(MACHINE, **changes)
