"""Disk and shared memory against Ray's object store. Pure functions."""

from laclip_ray.doctor.machines import Machine
from laclip_ray.doctor.results import Finding, failed, passed, skipped

_SHARE_OF_MEMORY = 0.3
_LARGEST_BYTES = 200 * 10**9
_TOLERATED_BYTES = 10**10
_SHARE_OF_SHARED_MEMORY = 0.95
"""Ray 2.60's rule for the size of an object store (`resolve_object_store_memory`)."""

_FULL = 0.95
"""Ray spills no objects to a disk fuller than this share (`local_fs_capacity_threshold`)."""


def expected_store_bytes(machine: Machine) -> int:
    """The size of the object store that Ray would take on a machine."""
    store = min(_SHARE_OF_MEMORY * machine.memory_bytes, _LARGEST_BYTES)
    if machine.shared_memory is not None:
        store = min(store, max(_TOLERATED_BYTES, _SHARE_OF_SHARED_MEMORY * machine.shared_memory.free_bytes))
    return int(store)


def check_shared_memory(machine: Machine, store_bytes: int, is_running: bool = False) -> Finding:
    """Whether the object store fits into shared memory.

    Args:
        machine: this one, or a node.
        store_bytes: the size of its object store.
        is_running: whether that Ray runs, and so may fill the store already.
    """
    if machine.shared_memory is None:
        return skipped(f"{machine.name} has no shared memory of its own")
    room = machine.shared_memory.total_bytes if is_running else machine.shared_memory.free_bytes
    sizes = f"{machine.shared_memory.path} of {machine.name}: {_size(room)} for an object store of {_size(store_bytes)}"
    if room >= store_bytes:
        return passed(sizes)
    return failed(
        f"{sizes}, so Ray keeps its objects on disk, which is slow",
        "Enlarge it: --shm-size in Docker; on Kubernetes an emptyDir of medium Memory (cluster/kuberay)",
    )


def check_disk(machine: Machine, store_bytes: int) -> Finding:
    """Whether the objects of a full store could spill to the disk."""
    disk = machine.temporary
    room = int(disk.free_bytes - (1 - _FULL) * disk.total_bytes)
    sizes = f"{disk.path} of {machine.name}: {_size(disk.free_bytes)} free of {_size(disk.total_bytes)}"
    if room >= store_bytes:
        return passed(sizes)
    return failed(
        f"{sizes}; Ray stops at {_FULL:.0%}, so an object store of {_size(store_bytes)} cannot spill there",
        "Free some space, or set RAY_TMPDIR to a short directory on a larger disk",
    )


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:,.1f} GiB"
