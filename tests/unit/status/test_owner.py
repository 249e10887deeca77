"""The lease says who writes to an output, and whether that run seems alive."""

import os
from pathlib import Path

import pytest

from laclip_ray.lease import LEASE_FILE, Holder, hold, this_machine
from laclip_ray.status.damage import Damage
from laclip_ray.status.owner import Owner, read_owner, state_of
from tests.unit.status.runs import aged, leave_lease


def owner_of(directory: Path) -> Owner:
    owner = read_owner(str(directory), Damage())
    assert owner is not None
    return owner


def test_nobody_owns_an_output_without_a_lease(tmp_path: Path) -> None:
    damage = Damage()
    assert read_owner(str(tmp_path), damage) is None
    assert damage.found == []


def test_a_run_of_this_machine_is_alive(tmp_path: Path) -> None:
    with hold(str(tmp_path / "out"), "output", "train"):
        owner = owner_of(tmp_path / "out")
    assert owner.is_alive
    assert owner.name is not None
    assert owner.name.startswith(f"laclip train, process {os.getpid()} on ")
    assert owner.verdict.startswith("seems alive: last sign of life ")
    assert owner.since_s is not None
    assert abs(owner.since_s - owner.now_s) < 60


def test_a_process_that_has_ended_is_dead_at_once(tmp_path: Path) -> None:
    leave_lease(tmp_path, machine=this_machine(), pid=2**22 + 1, process_start="7")
    owner = owner_of(tmp_path)
    assert (owner.is_dead, owner.is_alive) == (True, False)
    assert owner.verdict.startswith("its process has ended without a word; last sign of life ")


@pytest.mark.parametrize(("age_s", "is_alive"), [(5, True), (55, True), (70, False), (90_000, False)])
def test_a_run_elsewhere_is_alive_while_it_renews_its_lease(tmp_path: Path, age_s: float, is_alive: bool) -> None:
    leave_lease(tmp_path, age_s)
    owner = owner_of(tmp_path)
    assert owner.is_alive == is_alive
    assert ("seems alive" in owner.verdict) == is_alive
    assert owner.age_s == pytest.approx(age_s, abs=4)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"id": "1"}', b"\xff"])
def test_a_damaged_lease_is_named_and_its_age_still_counts(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LEASE_FILE).write_bytes(content)
    aged(tmp_path / LEASE_FILE, 300)
    damage = Damage()
    owner = read_owner(str(tmp_path), damage)
    assert owner is not None
    assert (owner.name, owner.is_alive) == (None, False)
    assert damage.found[0].startswith(f"{tmp_path}/lease.json: the lease is damaged")


def test_a_lease_with_values_of_other_types_is_damaged(tmp_path: Path) -> None:
    content = Holder.of_this_process("train").to_bytes().replace(b'"train"', b"[1]")
    (tmp_path / LEASE_FILE).write_bytes(content)
    assert owner_of(tmp_path).name is None


def test_the_owner_decides_the_state_first(tmp_path: Path) -> None:
    leave_lease(tmp_path)
    assert state_of(owner_of(tmp_path), has_begun=True, is_complete=True) == "running"
    leave_lease(tmp_path, age_s=100)
    assert state_of(owner_of(tmp_path), has_begun=True, is_complete=True) == "interrupted"


@pytest.mark.parametrize(
    ("has_begun", "is_complete", "state"),
    [
        (True, True, "finished"),
        (True, False, "incomplete"),
        (True, None, "interrupted"),
        (False, None, "never started"),
    ],
)
def test_without_an_owner_the_files_decide_the_state(has_begun: bool, is_complete: bool | None, state: str) -> None:
    assert state_of(None, has_begun, is_complete) == state
