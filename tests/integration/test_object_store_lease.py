"""The lease on a real S3 server: of processes that ask at once, one gets it."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from laclip_ray import lease, storage
from laclip_ray.creation import create_bytes, refuses_second_creation
from laclip_ray.lease import LEASE_FILE, Holder
from tests.integration.procedures import REPOSITORY, child_environment
from tests.s3_proxy import Burst, S3Proxy

HELD_S = 2.0
"""Longer than all processes take to ask."""
STALE_S = 1.0


@pytest.fixture
def calm_proxy(s3_faults: S3Proxy) -> Iterator[S3Proxy]:
    """The proxy before the server, restored afterwards."""
    yield s3_faults
    s3_faults.conditions_refused_with = None
    s3_faults.clear()


def contend(location: str, count: int, stale_s: float = 60.0) -> list[bool | str]:
    """Let processes ask for a lease at once."""
    arguments = [location, str(count), str(HELD_S), str(stale_s)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.lease_contenders", *arguments],
        cwd=REPOSITORY, env=child_environment(), stdout=subprocess.PIPE, text=True, check=True, timeout=120,
    )  # fmt: skip
    outcomes: list[bool | str] = json.loads(done.stdout.splitlines()[-1])
    return outcomes


def assert_one_winner(outcomes: list[bool | str], location: str) -> None:
    """One process held the lease, the others were told who did, and nothing is left."""
    assert [outcome for outcome in outcomes if outcome is True] == [True]
    assert all("another run writes to" in outcome for outcome in outcomes if isinstance(outcome, str))
    assert storage.list_entries(location) == {}


def test_of_eight_processes_that_ask_at_once_one_gets_the_lease(bucket: str) -> None:
    location = f"{bucket}/lease-free"
    assert_one_winner(contend(location, count=8), location)


def test_of_two_processes_that_take_over_at_once_one_gets_the_lease(bucket: str) -> None:
    location = f"{bucket}/lease-stale"
    gone = replace(Holder.of_this_process("train"), machine="another", host="far")
    storage.write_bytes(storage.join(location, LEASE_FILE), gone.to_bytes())
    time.sleep(STALE_S + 1.5)  # the store's times are whole seconds
    assert_one_winner(contend(location, count=2, stale_s=STALE_S), location)


def test_a_store_without_conditional_puts_gives_the_lease_to_one_process(bucket: str, calm_proxy: S3Proxy) -> None:
    calm_proxy.conditions_refused_with = 501
    location = f"{bucket}/lease-unconditional"
    assert_one_winner(contend(location, count=3), location)


@pytest.mark.parametrize("status", [400, 501])
def test_a_store_without_conditional_puts_creates_files_and_is_noticed(
    status: int, bucket: str, calm_proxy: S3Proxy
) -> None:
    calm_proxy.conditions_refused_with = status
    url = f"{bucket}/unconditional-{status}"
    assert create_bytes(url, b"first")
    assert not create_bytes(url, b"second")
    assert storage.read_bytes(url) == b"first"
    assert not refuses_second_creation(url, b"first")


def test_a_store_with_conditional_puts_refuses_a_second_creation(bucket: str) -> None:
    url = f"{bucket}/conditional"
    assert create_bytes(url, b"first")
    assert refuses_second_creation(url, b"first")


@pytest.mark.parametrize("key", [LEASE_FILE, "takeover"])
def test_a_lease_whose_creation_got_no_answer_is_held(
    key: str, bucket: str, calm_proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = f"{bucket}/lease-lost-{key}"
    if key == "takeover":
        monkeypatch.setattr(lease, "STALE_S", -1.0)
        gone = replace(Holder.of_this_process("train"), machine="another", host="far")
        storage.write_bytes(storage.join(location, LEASE_FILE), gone.to_bytes())
    calm_proxy.inject([Burst(after=0, kind="lost", length=2, below=key, method="PUT")])
    with lease.hold(location, "train.output", "train"):
        assert calm_proxy.left == 0
    assert storage.list_entries(location) == {}
