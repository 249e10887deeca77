"""Start a local Ray, or join the cluster of `RAY_ADDRESS`; refuse what Ray would fail at with pages, or hang on."""

import os
import re
import socket
import sys
import tempfile
import time
from typing import Any

from laclip_ray.endings import causes, signals
from laclip_ray.errors import SurroundingsError

CONNECT_TIMEOUT_S = 30.0
"""How long a cluster may take to accept a connection, and then again to answer."""
ANSWER_IN_TIME = {"RAY_gcs_server_port_wait_time_s": "1", "RAY_py_gcs_connect_timeout_s": "20"}
"""Give up on a server that is no Ray: one attempt (Ray's default: 20) of 5 s, 5 s and this time (default: 30 s)."""
_LONGEST_SOCKET = 107 if sys.platform.startswith("linux") else 103
"""Bytes in the path of a Unix socket."""
_SOCKET_BELOW = "ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""The longest path of a socket below Ray's temporary directory; process numbers have up to seven digits."""
_PAUSE_S = 0.5


def check_address(address: str, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
    """Refuse an address of `RAY_ADDRESS` where no Ray answers.

    Args:
        address: the variable's value.
        timeout_s: when to give up.

    Raises:
        SurroundingsError: it is the job server's address, it has no port, or no server accepts a connection there.
    """
    if re.match(r"https?://", address):
        raise SurroundingsError(
            f"RAY_ADDRESS: {address} is the address of the job server. Submit the command there (laclip submit "
            f"VERB CONFIG --address {address} --follow), or give the cluster's own address (HOST:6379) on one of its "
            "machines"
        )
    if address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise SurroundingsError(
            f"RAY_ADDRESS: {address} is not an address of a cluster. Give HOST:PORT, such as HOST:6379"
        )
    _wait_for_server(address, host.strip("[]"), int(port), timeout_s)


def _wait_for_server(address: str, host: str, port: int, timeout_s: float) -> None:
    """Return once a server accepts a connection; a head node that starts does not at first."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            socket.create_connection((host, port), timeout=max(0.1, deadline_s - time.monotonic())).close()
            return
        except OSError as error:
            if time.monotonic() + _PAUSE_S > deadline_s:
                raise _no_answer(address, timeout_s, error) from error
        time.sleep(_PAUSE_S)


def _no_answer(address: str, timeout_s: float, error: BaseException | None = None) -> SurroundingsError:
    reason = f" ({causes.describe(error)})" if error is not None else ""
    return SurroundingsError(
        f"RAY_ADDRESS: no Ray answers at {address}; given up after {timeout_s:.0f} s{reason}. Start the cluster, "
        "correct the address, or unset RAY_ADDRESS to start a Ray on this machine"
    )


def check_temporary_directory() -> None:
    """Refuse a temporary directory where a local Ray cannot work.

    Raises:
        SurroundingsError: its path is empty or too long for Ray's sockets, or files cannot be written there.
    """
    variable = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), None)
    directory = "/tmp" if variable is None else os.environ[variable]  # noqa: S108 - Ray's default
    if not directory:
        raise SurroundingsError(f"{variable}: is empty. Unset it, or set it to a directory")
    longest = _LONGEST_SOCKET - len(_SOCKET_BELOW) - 1
    if (length := len(os.fsencode(directory.rstrip("/")))) > longest:
        raise SurroundingsError(
            f"{variable}: {directory} has {length} bytes, and Ray's sockets allow {longest}. Set RAY_TMPDIR to a "
            "shorter directory, such as /tmp"
        )
    try:
        os.makedirs(directory, exist_ok=True)  # noqa: PTH103 - as Ray does
        with tempfile.TemporaryFile(dir=directory) as probe:
            probe.write(b"x")
    except OSError as error:
        raise SurroundingsError(
            f"{variable or 'the temporary directory'}: Ray cannot write to {directory} ({causes.describe(error)}). "
            "Give access to it, free some space, or set RAY_TMPDIR to another directory"
        ) from error


def start_or_join(address: str | None, **options: Any) -> None:
    """Run `ray.init`, with Ray's environment as it is.

    Args:
        address: of the cluster; None: start a local Ray.
        options: of `ray.init`.

    Raises:
        SurroundingsError: Ray does not start, or does not answer in time.
    """
    if address is None:
        check_temporary_directory()
    else:
        check_address(address)
        for variable, value in ANSWER_IN_TIME.items():
            os.environ.setdefault(variable, value)  # before Ray is imported
    import ray

    with signals.kept():
        try:
            ray.init(address=address or "local", log_to_driver=True, **options)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            if address is not None:
                raise SurroundingsError(
                    f"RAY_ADDRESS: this process cannot join the cluster at {address} ({causes.describe(error)}). Check "
                    "the address, and that the cluster runs the same versions of Ray and Python"
                ) from error
            raise SurroundingsError(
                f"Ray does not start on this machine ({causes.describe(error)}). Its logs are in "
                f"{os.environ.get('RAY_TMPDIR') or os.environ.get('TMPDIR') or '/tmp'}/ray/session_latest/logs"  # noqa: S108
            ) from error
