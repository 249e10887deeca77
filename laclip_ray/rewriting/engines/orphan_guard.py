"""A guard process that kills the children of this process when this process is gone.

vLLM's engine process does not watch its parent. After a `kill -9` of the parent it would keep the GPU's memory.

Guarantees: every child started after `kill_children_when_gone` is killed when this process ends, even after `kill -9`.
Linux only (`/proc`); other systems have no guard.
"""

import os
import subprocess
import sys
import uuid

OWNER_VARIABLE = "LACLIP_ENGINE_OWNER"
"""The mark in the environment of every child of a guarded process."""

_GUARD_PROGRAM = """
import os, signal, sys, time
marker = sys.argv[1].encode()
sys.stdin.buffer.read()  # returns when the owner is gone, however it went
# A process that is just being started shows its environment only when the new program is loaded.
for pause_s in (0, 0.1, 0.2, 0.5, 1, 2, 5, 10):
    time.sleep(pause_s)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if marker in file.read().split(b"\\0"):
                    os.kill(int(pid), signal.SIGKILL)
        except OSError:
            pass
"""


def kill_children_when_gone() -> None:
    """Start the guard: when this process ends, it kills every process that this process starts from now on.

    The guard is a small process in a session of its own. It waits until this process's end of a pipe closes, then kills
    every process with this process's mark in its environment. Children inherit the environment, so the guard finds them
    whenever they were started.
    """
    if OWNER_VARIABLE in os.environ or not sys.platform.startswith("linux"):
        return
    owner = uuid.uuid4().hex
    # A bare file descriptor: only the system closes it, after the last of this process's own clean-up.
    read_end, _ = os.pipe()
    subprocess.Popen(
        [sys.executable, "-S", "-c", _GUARD_PROGRAM, f"{OWNER_VARIABLE}={owner}"],
        stdin=read_end,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={},
    )
    os.close(read_end)
    os.environ[OWNER_VARIABLE] = owner
    # vLLM's processes set their titles. Without this variable they write the title over their environment and the mark.
    os.environ["SPT_NOENV"] = "1"
