"""The guard kills the children of a killed process."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest

_GUARDED = """
import os, subprocess, sys, time
from laclip_ray.rewriting.engines import orphan_guard
orphan_guard.OWNER_VARIABLE = "LACLIP_TESTED_OWNER"  # tests that run beside this one look for engines by the true mark
orphan_guard.kill_children_when_gone()
"""
_OWNER = f"""{_GUARDED}
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""

_OWNER_OF_A_CHILD_IN_ITS_START = f"""{_GUARDED}
pid = os.fork()
if pid == 0:
    os.closerange(3, 256)  # a fork keeps the pipe to the guard open
    time.sleep(0.5)  # the owner is killed before this child has a program and an environment of its own
    os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)"])
print(pid, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the guard reads /proc")
@pytest.mark.parametrize("program", [_OWNER, _OWNER_OF_A_CHILD_IN_ITS_START])
def test_a_child_dies_with_its_killed_owner(program: str) -> None:
    owner = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
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
