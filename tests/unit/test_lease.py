"""At most one run writes to an output; a run that has ended without a word is replaced after a stated time."""

import multiprocessing
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from laclip_ray import lease, storage
from laclip_ray.errors import UserError
from laclip_ray.lease import LEASE_FILE, STALE_S, Holder, LeaseLostError, hold
from tests.cases import case

fork = multiprocessing.get_context("fork")


class ForgetfulFileSystem(MemoryFileSystem):  # type: ignore[misc]
    """An object store that ignores the condition of a put."""

    protocol = "forgetful"
    store: dict[str, Any] = {}  # noqa: RUF012 - as fsspec declares it
    pseudo_dirs = [""]  # noqa: RUF012

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        super().pipe_file(path, value, **kwargs)


class UnconditionalFileSystem(MemoryFileSystem):  # type: ignore[misc]
    """An object store that refuses conditional puts."""

    protocol = "unconditional"
    store: dict[str, Any] = {}  # noqa: RUF012 - as fsspec declares it
    pseudo_dirs = [""]  # noqa: RUF012

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        if mode == "create":
            raise TypeError("unexpected keyword argument 'mode'")
        super().pipe_file(path, value, **kwargs)


fsspec.register_implementation("forgetful", ForgetfulFileSystem, clobber=True)
fsspec.register_implementation("unconditional", UnconditionalFileSystem, clobber=True)


@pytest.fixture(params=["local", "memory", "forgetful", "unconditional"])
def output(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An output that does not exist yet, on each kind of storage."""
    monkeypatch.setattr(lease, "_SETTLE_S", 0.01)
    return str(tmp_path / "out") if request.param == "local" else f"{request.param}://unit-{uuid.uuid4().hex}/out"


def held(output: str, wait_s: float = 0.0) -> Any:
    return hold(output, "train.output", "train", wait_s)


def stranger(**changes: Any) -> Holder:
    """A process of another machine."""
    return replace(Holder.of_this_process("train"), **{"machine": "elsewhere", "host": "gpu-7", "pid": 41, **changes})


def leave(output: str, holder: Holder, age_s: float = 0.0) -> str:
    """Put a holder's lease into an output, last renewed some time ago."""
    url = storage.join(output, LEASE_FILE)
    storage.write_bytes(url, holder.to_bytes())
    fs, path = storage.filesystem(url)
    then = datetime.now(UTC) - timedelta(seconds=age_s)
    if storage.is_local(url):
        os.utime(path, (then.timestamp(), then.timestamp()))
    else:
        fs.store[fs._strip_protocol(path)].modified = then
    return url


# --- one process after another


def test_a_lease_is_there_while_it_is_held_and_gone_afterwards(output: str) -> None:
    with held(output) as mine:
        assert storage.read_bytes(mine.url) == mine.holder.to_bytes()
        assert [storage.name_of(url) for url in storage.list_files(output)] == [LEASE_FILE]
    assert storage.list_files(output) == []


def test_a_lease_is_released_after_an_error(output: str) -> None:
    with pytest.raises(KeyboardInterrupt), held(output):
        raise KeyboardInterrupt
    assert storage.list_files(output) == []


def test_directories_that_only_held_the_lease_are_removed(tmp_path: Path) -> None:
    with pytest.raises(UserError), held(str(tmp_path / "a" / "b")):
        raise UserError("bad input")
    assert list(tmp_path.iterdir()) == []
    with held(str(tmp_path / "a" / "b")):
        (tmp_path / "a" / "b" / "result").touch()
    assert (tmp_path / "a" / "b" / "result").exists()


def test_uses_in_one_process_may_be_nested(output: str) -> None:
    with held(output) as outer:
        with held(output) as inner:
            assert inner is outer
        assert storage.exists(outer.url)
    assert not storage.exists(outer.url)


def test_other_outputs_have_leases_of_their_own(tmp_path: Path) -> None:
    with held(str(tmp_path / "a")), held(str(tmp_path / "b")), held(str(tmp_path)):
        pass


@case(
    "Identity",
    "a second run into an output that another machine writes to",
    "refused at once, with the owner, its start, and when its lease would be taken over",
    exit_code=2,
)
def test_a_second_run_is_refused_with_the_owner_and_the_time_left(output: str) -> None:
    owner = stranger(since="2026-11-01 10:00:00 UTC")
    url = leave(output, owner, age_s=12)
    expected = (
        r"^train\.output: another run writes to .*out \(laclip train, process 41 on gpu-7, since 2026-11-01 10:00:00 "
        r"UTC; it renewed its lease 12 s ago\)\. .* start again in 48 s: a lease .* not renewed for 60 s is taken over"
    )
    with pytest.raises(UserError, match=expected), held(output):
        pass
    assert storage.read_bytes(url) == owner.to_bytes()
    assert [storage.name_of(file) for file in storage.list_files(output)] == [LEASE_FILE]


@case(
    "Identity",
    "a lease that a lost machine left behind, older than 60 s",
    "the next run takes it over, and says so",
)
def test_a_stale_lease_is_taken_over(output: str, caplog: pytest.LogCaptureFixture) -> None:
    leave(output, stranger(), age_s=STALE_S + 1)
    with held(output) as mine:
        assert storage.read_bytes(mine.url) == mine.holder.to_bytes()
    assert "took over from a run that has ended without a word: laclip train, process 41 on gpu-7" in caplog.text
    assert storage.list_files(output) == []


def test_clocks_of_hosts_do_not_matter(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(output, stranger())
    monkeypatch.setattr(time, "time", lambda: 4e9)
    with pytest.raises(UserError, match="another run writes to"), held(output):
        pass


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"id": "x"}', b"\xff"])
@case("Identity", "a damaged lease", "it counts as a lease of an unknown run, and goes stale", exit_code=2)
def test_a_damaged_lease_is_of_an_unknown_run(output: str, content: bytes) -> None:
    url = leave(output, stranger())
    storage.write_bytes(url, content)
    with pytest.raises(UserError, match=r"another run writes to .*\(unknown; it renewed"), held(output):
        pass


def test_a_run_that_waits_gets_the_lease_when_it_is_released(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_POLL_S", 0.02)
    url = leave(output, stranger())
    timer = threading.Timer(0.2, storage.remove, [url])
    timer.start()
    with held(output, wait_s=20):
        pass
    timer.join()


@case("Identity", "a file as the output", "refused", exit_code=2)
def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    expected = r"train\.output: .*file' is a file; expected a directory"
    with pytest.raises(UserError, match=expected), held(str(tmp_path / "file")):
        pass


def test_a_takeover_mark_of_a_dead_run_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = leave(str(tmp_path), stranger(), age_s=2 * STALE_S)
    mark = tmp_path / f"{LEASE_FILE}{storage.ASIDE_MARK}takeover"
    mark.touch()
    with pytest.raises(UserError), held(str(tmp_path)):
        pass  # perhaps another run is taking over at this moment
    os.utime(mark, (time.time() - 2 * STALE_S,) * 2)
    with held(str(tmp_path)):
        assert storage.read_bytes(url) != stranger().to_bytes()
    assert list(tmp_path.iterdir()) == []


# --- renewing


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases are renewed all the time."""
    monkeypatch.setattr(lease, "RENEW_S", 0.02)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


@pytest.mark.usefixtures("quick")
def test_a_lease_is_renewed(output: str) -> None:
    with held(output) as mine:
        leave(output, mine.holder, age_s=50)
        wait_for(lambda: (lease._age_s(mine.url) or 0) < 10)


@pytest.mark.usefixtures("quick")
def test_a_removed_lease_is_written_again(output: str) -> None:
    with held(output) as mine:
        storage.remove(mine.url)
        wait_for(lambda: storage.exists(mine.url))


@pytest.mark.usefixtures("quick")
@case(
    "Identity",
    "a paused run whose output another run has taken over meanwhile",
    "it stops as soon as it is awake, and names the other run",
    exit_code=3,
)
def test_a_run_that_lost_its_lease_is_interrupted_and_leaves_the_new_one(output: str) -> None:
    other = stranger()

    def lose_it() -> None:
        with held(output):
            leave(output, other)
            for _ in range(2_000):
                time.sleep(0.01)

    with pytest.raises(LeaseLostError, match=r"another run has taken over .*out \(laclip train, process 41 on gpu-7"):
        lose_it()
    assert storage.read_bytes(storage.join(output, LEASE_FILE)) == other.to_bytes()


@pytest.mark.usefixtures("quick")
def test_a_caller_that_looks_itself_is_not_interrupted(output: str) -> None:
    def lose_it() -> None:
        with hold(output, "train.output", "train", interrupts=False) as mine:
            leave(output, stranger())
            wait_for(lambda: mine.is_lost)

    with pytest.raises(LeaseLostError):
        lose_it()


@pytest.mark.usefixtures("quick")
def test_a_storage_that_fails_for_a_while_does_not_lose_the_lease(
    output: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with held(output) as mine:
        with monkeypatch.context() as patch:
            patch.setattr(storage, "read_bytes", lambda url: (_ for _ in ()).throw(OSError("no network")))
            wait_for(lambda: "cannot be renewed: no network" in caplog.text)
        leave(output, mine.holder, age_s=50)
        wait_for(lambda: (lease._age_s(mine.url) or 0) < 10)
        assert not mine.is_lost


# --- processes


@pytest.fixture
def results() -> Iterator[Any]:
    """A queue that child processes put their results into."""
    queue = fork.Queue()
    yield queue
    queue.close()


def compete(output: str, barrier: Any, winners: Any) -> None:
    barrier.wait()
    try:
        with held(output):
            winners.put("won")
            barrier.wait()  # hold it until all others have tried
    except UserError:
        winners.put("refused")
        barrier.wait()


@pytest.mark.parametrize("start", ["free", "stale", "dead"])
def test_of_processes_that_start_at_once_exactly_one_gets_the_lease(tmp_path: Path, results: Any, start: str) -> None:
    for number in range(8):
        output = str(tmp_path / str(number))
        if start != "free":
            gone = Holder.of_this_process("train")
            leave(output, stranger() if start == "stale" else replace(gone, process_start="1"), 2 * STALE_S)
        barrier = fork.Barrier(4)
        processes = [fork.Process(target=compete, args=(output, barrier, results)) for _ in range(4)]
        for process in processes:
            process.start()
        outcomes = sorted(results.get(timeout=20) for _ in processes)
        for process in processes:
            process.join()
        assert outcomes == ["refused"] * 3 + ["won"], number


def hold_until_killed(output: str, ready: Any) -> None:
    with held(output):
        ready.put("held")
        time.sleep(60)


@case("Identity", "the owner of an output is killed on this machine", "the next run takes over at once")
def test_the_lease_of_a_killed_process_of_this_machine_is_free(tmp_path: Path, results: Any) -> None:
    process = fork.Process(target=hold_until_killed, args=(str(tmp_path), results))
    process.start()
    assert results.get(timeout=20) == "held"
    with pytest.raises(UserError, match=f"process {process.pid} on"), held(str(tmp_path)):
        pass
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    # It is a zombie until `join`, as in a container without an init process.
    wait_for(lambda: lease.process_start(process.pid or 0) is None)
    with held(str(tmp_path)):
        pass
    process.join()


def test_a_later_process_of_the_same_number_is_not_the_holder() -> None:
    me = Holder.of_this_process("train")
    assert not me.is_dead
    assert replace(me, process_start="1").is_dead
    assert not replace(me, process_start="1", machine="elsewhere").is_dead
    assert not replace(me, process_start=None).is_dead
