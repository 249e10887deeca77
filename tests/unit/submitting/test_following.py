"""A follower prints the log once, across broken connections, and knows when the job has ended."""

from collections.abc import AsyncIterator, Callable

import pytest

from laclip_ray.submitting import following
from laclip_ray.submitting.following import follow
from laclip_ray.submitting.job import Job
from laclip_ray.submitting.server import UnreachableError

LOG = "".join(f"line {number}\n" for number in range(10))


class Server:
    """A job server whose connections break as a test says."""

    def __init__(self, connections: list[int | None], ends_after: int, answers: Callable[[int], bool]) -> None:
        self.connections = connections
        """Characters that each connection sends before it breaks; None: it ends well with the whole log."""
        self.ends_after = ends_after
        """Connections after which the job has ended."""
        self.answers = answers
        self.asked = self.connected = 0

    def job(self, submission_id: str) -> Job:
        self.asked += 1
        if not self.answers(self.asked):
            raise UnreachableError("gone")
        return Job("FAILED", 3) if self.connected >= self.ends_after else Job("RUNNING")

    def log(self, submission_id: str) -> str:
        return LOG if self.connected >= self.ends_after else ""

    async def tail(self, submission_id: str) -> AsyncIterator[str]:
        sent = self.connections[min(self.connected, len(self.connections) - 1)]
        self.connected += 1
        for start in range(0, len(LOG) if sent is None else sent, 7):
            yield LOG[start : start + 7 if sent is None else min(start + 7, sent)]
        if sent is not None:
            raise UnreachableError("broken")


def always(_: int) -> bool:
    return True


@pytest.mark.parametrize(
    ("connections", "ends_after"), [([None], 1), ([5, 30, None], 3), ([20, 0, 0], 3), ([0, None], 2)]
)
def test_a_log_is_printed_once_however_often_the_connection_breaks(
    connections: list[int | None], ends_after: int
) -> None:
    printed: list[str] = []
    server = Server(connections, ends_after, always)
    job, tail = follow(server, "mine", printed.append, pause=lambda _: None)
    assert ("".join(printed), tail) == (LOG, LOG)
    assert job == Job("FAILED", 3)


def test_a_server_that_comes_back_is_waited_for() -> None:
    pauses: list[float] = []
    printed: list[str] = []
    server = Server([5, 5, 5, 5, 5, None], 6, lambda asked: asked > 5)
    follow(server, "mine", printed.append, pause=pauses.append)
    assert "".join(printed) == LOG
    assert pauses == [1.0, 2.0, 4.0, 8.0, 15.0]


def test_a_server_that_stays_away_is_given_up() -> None:
    server = Server([5], 1, lambda asked: False)
    with pytest.raises(UnreachableError):
        follow(server, "mine", lambda _: None, give_up_s=0.0, pause=lambda _: None)


class Silent(Server):
    """The connection never shows that the job has ended."""

    async def tail(self, submission_id: str) -> AsyncIterator[str]:
        import asyncio

        self.connected += 1
        yield LOG[:7]
        await asyncio.sleep(3600)


def test_a_connection_that_breaks_unnoticed_does_not_hide_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "QUIET_S", 0.01)
    printed: list[str] = []
    job, _ = follow(Silent([None], 1, always), "mine", printed.append)
    assert ("".join(printed), job.exit_code) == (LOG, 3)


class WithoutLog(Server):
    """The node with the log is lost."""

    def log(self, submission_id: str) -> str:
        raise UnreachableError("500")


def test_the_end_of_a_job_is_told_without_the_end_of_its_log() -> None:
    printed: list[str] = []
    job, tail = follow(WithoutLog([5], 1, always), "mine", printed.append, pause=lambda _: None)
    assert ("".join(printed), tail, job.exit_code) == (LOG[:5], LOG[:5], 3)
