"""Disk and shared memory must hold Ray's object store."""

import pytest

from laclip_ray.doctor.machines import Space
from laclip_ray.doctor.space import check_disk, check_shared_memory, expected_store_bytes
from tests.unit.doctor.machines import GIB, MACHINE, machine

STORE = 10 * GIB


def test_a_large_machine_passes() -> None:
    assert check_disk(MACHINE, STORE).outcome == "passed"
    assert check_shared_memory(MACHINE, STORE).outcome == "passed"


def test_a_disk_that_cannot_hold_the_store_fails() -> None:
    found = check_disk(machine(temporary=Space("/disk", 100 * GIB, 12 * GIB)), STORE)
    assert found.outcome == "failed"
    assert found.detail == (
        "/disk of host: 12.0 GiB free of 100.0 GiB; Ray stops at 95%, so an object store of 10.0 GiB cannot spill there"
    )
    assert "RAY_TMPDIR" in found.remedy


def test_small_shared_memory_fails() -> None:
    found = check_shared_memory(machine(shared_memory=Space("/shm", GIB // 16, GIB // 16)), STORE)
    assert found.outcome == "failed"
    assert "so Ray keeps its objects on disk, which is slow" in found.detail
    assert "--shm-size" in found.remedy


def test_shared_memory_that_a_running_store_fills_passes() -> None:
    full = machine(shared_memory=Space("/shm", 10 * GIB, 0))
    assert check_shared_memory(full, STORE).outcome == "failed"
    assert check_shared_memory(full, STORE, is_running=True).outcome == "passed"


def test_a_machine_without_shared_memory_is_skipped() -> None:
    assert check_shared_memory(machine(shared_memory=None), STORE).outcome == "skipped"


@pytest.mark.parametrize(
    ("memory_gib", "shared_gib"), [(4, 2), (32, 16), (32, 1), (64, 1), (64, 12), (2_000, 1_000), (2_000, 0)]
)
def test_the_store_has_the_size_that_ray_chooses(
    memory_gib: int, shared_gib: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray._private import utils

    monkeypatch.setattr(utils, "get_shared_memory_bytes", lambda: shared_gib * GIB)
    monkeypatch.setattr("sys.platform", "linux")
    chosen = utils.resolve_object_store_memory(memory_gib * GIB)
    shared = Space("/shm", shared_gib * GIB, shared_gib * GIB)
    assert expected_store_bytes(machine(memory_bytes=memory_gib * GIB, shared_memory=shared)) == pytest.approx(chosen)
