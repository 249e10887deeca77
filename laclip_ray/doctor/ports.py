"""Ports that a local Ray needs."""

import contextlib
import socket

from laclip_ray.doctor.results import Finding, failed, passed

_NEEDED = 50
"""Ports of a small local Ray. It takes any free ones."""
_DASHBOARD = 8265
_REMEDY = "Let this user open ports on 127.0.0.1, stop programs that hold thousands of them, or raise ulimit -n"


def check_ports(dashboard: bool, needed: int = _NEEDED) -> Finding:
    """Whether this machine has free ports for a Ray that starts here.

    Args:
        dashboard: whether Ray serves its dashboard. If its port is taken, Ray takes the next one.
        needed: number of ports.
    """
    with contextlib.ExitStack() as opened:
        for number in range(needed):
            try:
                opened.enter_context(_listening(0))
            except OSError as error:
                return failed(f"only {number} of {needed} ports could be opened ({error.strerror or error})", _REMEDY)
    if dashboard and not _is_free(_DASHBOARD):
        return passed(f"{needed} ports are free; {_DASHBOARD} is taken, so Ray's dashboard gets a later port")
    return passed(f"{needed} ports are free")


def _listening(port: int) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        opened.bind(("127.0.0.1", port))
        opened.listen(1)
    except OSError:
        opened.close()
        raise
    return opened


def _is_free(port: int) -> bool:
    try:
        _listening(port).close()
    except OSError:
        return False
    return True
