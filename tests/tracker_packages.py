"""The packages of experiment trackers (W&B, Trackio, MLflow) for tests, beside the environment and not in it.

    python -m tests.tracker_packages    # installs them into build/trackers, as `make test` does

Guarantees: the packages are those of `requirements/trackers.lock`, which leaves out what the environment has. A process
sees both with `with_trackers`.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
DIRECTORY = REPOSITORY / "build" / "trackers"
UV = REPOSITORY / "build" / "uv" / "bin" / "uv"
LOCK = REPOSITORY / "requirements" / "trackers.lock"
_INSTALLED = "installed.lock"
"""A copy of the lock in the directory."""


def is_installed() -> bool:
    """Whether the packages of the present lock are there."""
    copy = DIRECTORY / _INSTALLED
    return copy.exists() and copy.read_text() == LOCK.read_text()


def install() -> None:
    """Install the packages, unless they are there. The directory appears whole or not at all."""
    if is_installed():
        return
    DIRECTORY.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=DIRECTORY.parent) as scratch:
        packages = Path(scratch) / "trackers"
        options = ["--quiet", "--no-deps", "--python", sys.executable, "--target", str(packages)]
        subprocess.run([UV, "pip", "install", *options, "-r", LOCK], check=True)
        (packages / _INSTALLED).write_text(LOCK.read_text())
        shutil.rmtree(DIRECTORY, ignore_errors=True)
        packages.rename(DIRECTORY)


def with_trackers(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """An environment for a process that sees the packages, and this repository."""
    paths = [str(REPOSITORY), str(DIRECTORY), environment.get("PYTHONPATH", "")]
    return {**environment, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


if __name__ == "__main__":
    install()
