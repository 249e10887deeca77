"""A cluster that does not answer, and a temporary directory where Ray cannot work, are refused in a sentence."""

import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from laclip_ray.errors import SurroundingsError
from laclip_ray.ray_start import ANSWER_IN_TIME, check_address, check_temporary_directory, start_or_join
from tests.cases import case


@pytest.fixture
def port() -> Iterator[int]:
    """A port where a server listens."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


@case("How a run ends", "RAY_ADDRESS with the job server's address", "the message shows how to submit", exit_code=4)
@pytest.mark.parametrize("address", ["http://head:8265", "https://head:8265/"])
def test_the_address_of_the_job_server_is_refused_at_once(address: str) -> None:
    with pytest.raises(SurroundingsError, match=rf"RAY_ADDRESS: {address} is the address of the job server\. Submit"):
        check_address(address)


@case("How a run ends", "a dead RAY_ADDRESS", "given up after 30 s", exit_code=4)
def test_a_dead_address_is_given_up_after_the_stated_time(port: int) -> None:
    check_address(f"127.0.0.1:{port}")
    check_address(f"ray://127.0.0.1:{port}")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        started_s = time.monotonic()
        with pytest.raises(SurroundingsError, match=rf"no Ray answers at {address}; given up after 1 s \(Connection"):
            check_address(address, timeout_s=1.0)
        assert time.monotonic() - started_s < 20  # the default is 30


def test_a_cluster_that_starts_late_is_waited_for() -> None:
    with socket.socket() as late:
        late.bind(("127.0.0.1", 0))
        threading.Timer(0.7, late.listen).start()
        check_address(f"127.0.0.1:{late.getsockname()[1]}", timeout_s=20.0)


@pytest.mark.parametrize("address", ["auto", "local"])
def test_ray_finds_these_by_itself(address: str) -> None:
    check_address(address)


@pytest.mark.parametrize("address", ["head", "head:", ":6379", "head:port"])
def test_an_address_without_a_port_is_refused(address: str) -> None:
    with pytest.raises(SurroundingsError, match=r"is not an address of a cluster\. Give HOST:PORT"):
        check_address(address)


@case("How a run ends", "a TMPDIR too long for Ray's sockets", "the message names the longest allowed", exit_code=4)
@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_a_temporary_directory_with_a_long_path_is_refused(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = str(tmp_path / ("d" * 60))
    monkeypatch.setenv(variable, directory)
    with pytest.raises(SurroundingsError, match=rf"{variable}: {re.escape(directory)} has .* and Ray's sockets allow"):
        check_temporary_directory()
    assert not Path(directory).exists()


def test_the_longest_allowed_temporary_directory_is_what_ray_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private.utils import validate_socket_filepath

    monkeypatch.setattr(os, "makedirs", lambda *_, **__: None)
    session = "ray/session_2026-12-31_23-59-59_123456_4194304/sockets/plasma_store"
    for length in range(30, 50):
        directory = "/" + "d" * (length - 1)
        monkeypatch.setenv("RAY_TMPDIR", directory)
        with pytest.raises(SurroundingsError) as refused:  # at the latest because there is no such directory
            check_temporary_directory()
        try:
            validate_socket_filepath(f"{directory}/{session}")
        except OSError:
            assert "sockets allow" in str(refused.value)
        else:
            assert "cannot write" in str(refused.value)


@case("How a run ends", "a TMPDIR that cannot be written", "the message names variable and reason", exit_code=4)
def test_a_temporary_directory_that_cannot_be_made_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RAY_TMPDIR", "file/below")
    with pytest.raises(SurroundingsError, match=r"RAY_TMPDIR: Ray cannot write to file/below \(NotADirectoryError: "):
        check_temporary_directory()


def test_an_empty_temporary_directory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "")
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    with pytest.raises(SurroundingsError, match=r"TMPDIR: is empty\. Unset it"):
        check_temporary_directory()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (None, r"Ray does not start on this machine \(RuntimeError: raylet failed\)\. Its logs are in "),
        ("auto", r"RAY_ADDRESS: this process cannot join the cluster at auto \(RuntimeError: raylet failed\)\. Check"),
    ],
)
def test_a_failure_of_ray_is_told_in_a_sentence(
    address: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**options: Any) -> None:
        assert options == {"address": address or "local", "log_to_driver": True, "num_cpus": 3}
        raise RuntimeError("raylet failed")

    for variable in ANSWER_IN_TIME:
        monkeypatch.setenv(variable, "7")  # restored afterwards
    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(SurroundingsError, match=message):
        start_or_join(address, num_cpus=3)
