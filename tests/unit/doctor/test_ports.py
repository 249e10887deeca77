"""A local Ray needs free ports."""

import errno
import socket
from typing import Any

import pytest

from laclip_ray.doctor import ports
from laclip_ray.doctor.ports import check_ports


def test_this_machine_has_free_ports() -> None:
    assert check_ports(dashboard=False).outcome == "passed"


def test_a_machine_without_ports_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []

    class Socket(socket.socket):
        """Two can be bound."""

        def bind(self, address: Any) -> None:
            if len(opened) == 2:
                raise OSError(errno.EADDRINUSE, "Address already in use")
            opened.append(address)
            super().bind(address)

    monkeypatch.setattr(socket, "socket", Socket)
    found = check_ports(dashboard=False)
    assert found.outcome == "failed"
    assert found.detail == "only 2 of 50 ports could be opened (Address already in use)"


def test_a_dashboard_may_get_a_later_port(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(ports, "_DASHBOARD", taken.getsockname()[1])
        assert "so Ray's dashboard gets a later port" in check_ports(dashboard=True).detail
        assert "dashboard" not in check_ports(dashboard=False).detail
