"""A real S3 server on this machine, for tests: OpenStack Swift with its S3 interface, from packages on PyPI.

    python -m tests.object_store    # makes its environment in build/object-store, as `make test` does

Guarantees: the packages are those of `requirements/object_store.lock`, by version and checksum, in an environment of
their own. The server checks signatures, and it takes conditional puts.
Not covered: speed. It answers some 50 requests a second.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import requests

REPOSITORY = Path(__file__).parents[1]
ENVIRONMENT = REPOSITORY / "build" / "object-store"
UV = REPOSITORY / "build" / "uv" / "bin" / "uv"
LOCK = REPOSITORY / "requirements" / "object_store.lock"

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test:tester",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
}
"""Environment variables of its one user."""

_START_TIMEOUT_S = 60.0
_FILTERS = (
    "catch_errors gatekeeper healthcheck listing_formats bulk s3api tempauth copy slo dlo versioned_writes symlink"
)
"""In the order in which a request passes them."""
_OPTIONS = {
    "s3api": {"location": "us-east-1"},
    "tempauth": {"user_test_tester": "testing .admin"},
    "versioned_writes": {"allow_versioned_writes": "true"},
}


def make_environment() -> None:
    """Install the server, unless it is there."""
    if (ENVIRONMENT / "bin" / "swift-proxy-server").exists():
        return
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    subprocess.run([UV, "venv", "--quiet", "--python", "3.11", ENVIRONMENT], check=True)
    python = ENVIRONMENT / "bin" / "python"
    subprocess.run(
        [UV, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", LOCK],
        check=True,
    )


@contextmanager
def object_store(directory: Path, port: int) -> Iterator[str]:
    """Run the server inside this context; its URL, for `AWS_ENDPOINT_URL`.

    Args:
        directory: an empty directory for its data, settings and logs.
        port: where it answers; the three after it are used, too.

    Raises:
        RuntimeError: it does not start.
    """
    assert (ENVIRONMENT / "bin").is_dir(), "make the server first: `make object-store`"
    (directory / "disks" / "disk").mkdir(parents=True)
    _write_settings(directory, port)
    processes = [_start(directory, name) for name in ("account", "container", "object", "proxy")]
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(url, directory, processes)
        yield url
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


def _start(directory: Path, name: str) -> "subprocess.Popen[bytes]":
    with (directory / f"{name}.log").open("wb") as log:
        command = [ENVIRONMENT / "bin" / f"swift-{name}-server", directory / f"{name}.conf"]
        return subprocess.Popen(command, stdout=log, stderr=log)


def _wait(url: str, directory: Path, processes: list["subprocess.Popen[bytes]"]) -> None:
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while True:
        with suppress(requests.RequestException):
            if requests.get(f"{url}/healthcheck", timeout=1).ok:
                return
        if time.monotonic() > deadline_s or any(process.poll() is not None for process in processes):
            logs = "\n".join(log.read_text(errors="replace")[-500:] for log in sorted(directory.glob("*.log")))
            raise RuntimeError(f"the S3 server does not start:\n{logs}")
        time.sleep(0.1)


def _write_settings(directory: Path, port: int) -> None:
    (directory / "swift.conf").write_text(
        _section("swift-hash", {"swift_hash_path_suffix": "tests"})
        + _section("storage-policy:0", {"name": "one", "default": "yes"})
    )
    common = {"swift_dir": directory, "bind_ip": "127.0.0.1", "user": _user(), "workers": 0, "log_level": "WARNING"}
    for number, name in enumerate(("account", "container", "object"), start=1):
        disks = {"devices": directory / "disks", "mount_check": "false", "disable_fallocate": "true"}
        (directory / f"{name}.conf").write_text(
            _section("DEFAULT", {**common, **disks, "bind_port": port + number})
            + _section("pipeline:main", {"pipeline": f"{name}-server"})
            + _section(f"app:{name}-server", {"use": f"egg:swift#{name}"})
        )
        _make_ring(directory, name, port + number)
    proxy = {"use": "egg:swift#proxy", "allow_account_management": "true", "account_autocreate": "true"}
    (directory / "proxy.conf").write_text(
        _section("DEFAULT", {**common, "bind_port": port})
        + _section("pipeline:main", {"pipeline": f"{_FILTERS} proxy-server"})
        + _section("app:proxy-server", proxy)
        + "".join(
            _section(f"filter:{name}", {"use": f"egg:swift#{name}", **_OPTIONS.get(name, {})})
            for name in _FILTERS.split()
        )
    )


def _section(name: str, options: dict[str, object] | dict[str, str]) -> str:
    return "\n".join([f"[{name}]", *(f"{key} = {value}" for key, value in options.items()), "", ""])


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


def _make_ring(directory: Path, name: str, port: int) -> None:
    """One disk holds everything."""
    builder = [ENVIRONMENT / "bin" / "swift-ring-builder", directory / f"{name}.builder"]
    steps = (["create", "4", "1", "1"], ["add", f"r1z1-127.0.0.1:{port}/disk", "1"], ["rebalance"])
    for step in steps:
        # 1 is a warning: one disk cannot hold copies apart from each other.
        done = subprocess.run([*builder, *step], capture_output=True, text=True, check=False)
        if done.returncode > 1:
            raise RuntimeError(f"swift-ring-builder {step[0]}: {done.stdout}{done.stderr}")


if __name__ == "__main__":
    make_environment()
