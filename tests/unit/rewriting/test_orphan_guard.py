"""The guard kills the children of a killed process."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest

_OWNER = """
import subprocess, sys, time
from laclip_ray.rewriting.orphan_guard import kill_children_when_gone
kill_children_when_gone()
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the guard reads /proc")
def test_a_child_dies_with_its_killed_owner() -> None:
    owner = subprocess.Popen([sys.executable, "-c", _OWNER], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    child = psutil.Process(int(owner.stdout.readline()))
    try:
        assert child.is_running()
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait(timeout=30)
        deadline_s = time.monotonic() + 60
        while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline_s, "the child outlived its owner"
            time.sleep(0.05)
    finally:
        owner.kill()
        with suppress(psutil.NoSuchProcess):
            child.kill()
