"""A lease on an output: at most one run writes to it.

A run that writes to an output holds the file `lease.json` there, touches it every `RENEW_S` seconds, and removes it at
the end, also after errors and signals. A second run is refused and told who holds the output. A lease is taken over if
its process is known to be dead (same machine), or if it was not renewed for `STALE_S` seconds. A run that lost its
lease stops as soon as it notices.

Guarantees: of runs that start at once, one gets the lease. Ages compare two times by the clock of the store, so clocks
of hosts do not matter.

Not covered: on an object store without conditional puts, two runs that start within `_SETTLE_S` of each other are told
apart only if their writes arrive within that time. A run that lost its lease may write until its next renewal.
"""

import contextlib
import json
import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from laclip_ray import storage
from laclip_ray.creation import create_bytes, refuses_second_creation
from laclip_ray.endings import signals
from laclip_ray.errors import IncompleteError, UserError

logger = logging.getLogger(__name__)

LEASE_FILE = "lease.json"
"""Name of the lease in an output."""

RENEW_S = 10.0
"""Time between two renewals."""

STALE_S = 60.0
"""A lease unrenewed for this long is taken over."""

_SETTLE_S = 2.0
"""On a store without conditional puts, a new lease counts if it is still there after this time."""

_POLL_S = 1.0
"""Time between two attempts of a run that waits for a lease."""


class LeaseLostError(IncompleteError):
    """Another run has taken over the output."""


@dataclass(frozen=True)
class Holder:
    """The process that holds a lease: the content of `lease.json`."""

    id: str
    """Unique to the lease."""
    verb: str
    host: str
    pid: int
    since: str
    """Time of the start by the host's clock, for messages."""
    machine: str
    """Identifies a boot of a machine, and the set of its processes that see each other."""
    process_start: str | None
    """Distinguishes the process from a later one with the same number. None: not known."""

    @classmethod
    def of_this_process(cls, verb: str) -> "Holder":
        """A new holder."""
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        pid = os.getpid()
        return cls(uuid.uuid4().hex, verb, socket.gethostname(), pid, now, this_machine(), process_start(pid))

    def to_bytes(self) -> bytes:
        """The content of the lease."""
        return (json.dumps(asdict(self)) + "\n").encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Holder | None":
        """The inverse of `to_bytes`; None for anything else."""
        try:
            return cls(**json.loads(content))
        except (ValueError, TypeError):
            return None

    @property
    def is_dead(self) -> bool:
        """Whether the process is known to have ended. Processes of other machines are not known."""
        if self.machine != this_machine() or self.process_start is None:
            return False
        return process_start(self.pid) != self.process_start

    def __str__(self) -> str:
        return f"laclip {self.verb}, process {self.pid} on {self.host}, since {self.since}"


def this_machine() -> str:
    """Identifies this boot of this machine and the container's process numbers; unique without Linux's `/proc`."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return uuid.uuid4().hex


def process_start(pid: int) -> str | None:
    """The start of a running process, in ticks since the machine's boot; None if it has ended or is not known."""
    try:
        # The name in parentheses may hold spaces. Then: state, 18 numbers, start.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


@dataclass
class Lease:
    """A lease that this process holds."""

    location: str
    setting: str
    """The config key of `location`, for messages."""
    holder: Holder
    on_lost: Callable[[], None]
    """Called once, in the renewing thread, when another run has taken over."""
    created: list[Path] = field(default_factory=list)
    """Local directories made for the lease, the deepest first."""
    users: int = 1
    """Nested uses in this process."""
    _new_holder: Holder | None = None
    """Of a lost lease."""
    _lost: threading.Event = field(default_factory=threading.Event)
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The lease's file."""
        return storage.join(self.location, LEASE_FILE)

    @property
    def is_lost(self) -> bool:
        """Whether another run has taken over."""
        return self._lost.is_set()

    def check(self) -> None:
        """Raise LeaseLostError if another run has taken over."""
        if self.is_lost:
            raise LeaseLostError(
                f"{self.setting}: another run has taken over {self.location} ({self._new_holder or 'unknown'}), "
                f"because this run did not renew its lease for {STALE_S:.0f} s; it was paused, or cut off from the "
                "storage. This run has stopped, and the other one continues its work"
            )

    def start(self) -> None:
        """Renew the lease in a thread."""
        self._thread = threading.Thread(target=self._keep, daemon=True, name="lease")
        self._thread.start()

    def _keep(self) -> None:
        failing = False
        while not self._ended.wait(RENEW_S):
            try:
                is_held = self.renew()
                failing = False
            except Exception as error:  # noqa: BLE001 - file systems raise many types; the next renewal may succeed
                if not failing:
                    logger.warning("%s: the lease cannot be renewed: %s", self.url, error)
                failing = True
                continue
            if not is_held:
                self._lost.set()
                self.on_lost()
                return

    def renew(self) -> bool:
        """Renew the lease once; False if another run holds it."""
        content = self.holder.to_bytes()
        found = _read(self.url)
        if found is None:  # someone has removed it
            # Read again: a put that was repeated because its answer was lost is refused.
            is_created = create_bytes(self.url, content)
            found = content if is_created else _read(self.url)
        if found != content:
            self._new_holder = Holder.from_bytes(found or b"")
            return False
        if storage.is_local(self.url):
            os.utime(storage.filesystem(self.url)[1])  # never writes over another run's lease
        else:
            storage.write_bytes(self.url, content)
        return True

    def release(self) -> None:
        """Stop renewing, and remove the lease."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        if self.is_lost:
            return
        try:
            if _read(self.url) == self.holder.to_bytes():
                storage.remove(self.url)
        except Exception as error:  # noqa: BLE001 - the work is done; the lease goes stale
            logger.warning("%s: the lease cannot be removed: %s", self.url, error)
        for directory in self.created:
            with contextlib.suppress(OSError):
                directory.rmdir()  # only if it is still empty


_held: dict[str, Lease] = {}
"""The leases of this process, by the path in the file system."""
_lock = threading.Lock()


@contextlib.contextmanager
def hold(location: str, setting: str, verb: str, wait_s: float = 0.0, interrupts: bool = True) -> Iterator[Lease]:
    """Hold the lease on an output. In one process, uses may be nested.

    Args:
        location: a directory or URL.
        setting: its config key, for messages.
        verb: the command, for the messages of other runs.
        wait_s: how long to wait for the lease of another run.
        interrupts: whether a lost lease interrupts the main thread. If not, the caller looks at `Lease.is_lost`.

    Raises:
        UserError: another run holds the lease.
        LeaseLostError: another run took over while this one was in the context.
    """
    with _lock:
        key = storage.filesystem(location)[1]
        lease = _held.get(key)
        if lease is not None and lease.holder.pid == os.getpid():
            lease.users += 1
        else:
            lease = _held[key] = _acquire(location, setting, verb, wait_s, interrupts)
    try:
        yield lease
        lease.check()
    except BaseException as error:
        if lease.is_lost and not isinstance(error, LeaseLostError):
            lease.check()
        raise
    finally:
        with _lock:
            lease.users -= 1
            if not lease.users:
                del _held[key]
                lease.release()


def _acquire(location: str, setting: str, verb: str, wait_s: float, interrupts: bool) -> Lease:
    if storage.filesystem(location)[0].isfile(storage.filesystem(location)[1]):
        raise UserError(f"{setting}: {location!r} is a file; expected a directory")
    interrupted = interrupts and threading.current_thread() is threading.main_thread()
    created = _missing_directories(location)
    lease = Lease(location, setting, Holder.of_this_process(verb), _interrupt if interrupted else _do_nothing, created)
    deadline_s = time.monotonic() + wait_s
    attempts = 0
    while not _try(lease):
        attempts += 1
        holder, age_s = _holder_at(lease.url), _age_s(lease.url)
        is_free = age_s is None or age_s > STALE_S or (holder is not None and holder.is_dead)
        if is_free and attempts < 10:  # released since, or another run is about to take it over
            time.sleep(0.1)
        elif time.monotonic() < deadline_s:
            time.sleep(_POLL_S)
        else:
            _refuse(lease, holder, age_s or 0.0)
    lease.start()
    return lease


def _refuse(lease: Lease, holder: Holder | None, age_s: float) -> NoReturn:
    left_s = max(1.0, STALE_S - age_s)
    raise UserError(
        f"{lease.setting}: another run writes to {lease.location} ({holder or 'unknown'}; it renewed its lease "
        f"{age_s:.0f} s ago). Wait for its end, stop it, or choose another directory. If it no longer runs, start "
        f"again in {left_s:.0f} s: a lease that is not renewed for {STALE_S:.0f} s is taken over"
    )


def _try(lease: Lease) -> bool:
    """Take the lease if nobody has it, or if its holder is gone."""
    content = lease.holder.to_bytes()
    found = _read(lease.url)  # before the put: a store may ignore its condition
    if found is None:
        # A repeated put whose first answer was lost fails, although the lease is this run's.
        create_bytes(lease.url, content)
        return _is_settled(lease)
    if not _is_abandoned(lease.url, found):
        return False
    # Only one run at a time may replace an abandoned lease, or the second would replace the first one's new lease.
    mark = f"{lease.url}{storage.ASIDE_MARK}takeover"
    if not create_bytes(mark, content) and _read(mark) != content:
        age_s = _age_s(mark)
        if age_s is not None and age_s > STALE_S:
            storage.remove(mark)  # its run died before it took over
        return False
    try:
        if _read(lease.url) != found or not _is_abandoned(lease.url, found):
            return False
        logger.warning(
            "%s: took over from a run that has ended without a word: %s",
            lease.location, Holder.from_bytes(found) or "unknown",
        )  # fmt: skip
        storage.write_bytes(lease.url, content)
        return _is_settled(lease)
    finally:
        storage.remove(mark)


def _is_settled(lease: Lease) -> bool:
    """Whether the lease just written is this run's.

    On a store without conditional puts, the last of several writers wins, and all others see it after a while.
    """
    content = lease.holder.to_bytes()
    if _read(lease.url) != content:
        return False
    if not storage.is_local(lease.url) and not refuses_second_creation(lease.url, content):
        logger.warning(
            "%s: the store has no conditional puts (If-None-Match); of two runs that start within %.0f s of each "
            "other, the later one gets the output", lease.location, _SETTLE_S,
        )  # fmt: skip
        time.sleep(_SETTLE_S)
    return _read(lease.url) == content


def _is_abandoned(url: str, content: bytes) -> bool:
    holder, age_s = Holder.from_bytes(content), _age_s(url)
    return (holder is not None and holder.is_dead) or (age_s is not None and age_s > STALE_S)


def _read(url: str) -> bytes | None:
    """The content of a lease; None without a lease."""
    try:
        return storage.read_bytes(url)
    except FileNotFoundError:
        return None


def _holder_at(url: str) -> Holder | None:
    return Holder.from_bytes(_read(url) or b"")


def _age_s(url: str) -> float | None:
    """Seconds since a file was written, by the clock of its store; None if it does not exist."""
    probe = f"{url}{storage.ASIDE_MARK}{uuid.uuid4().hex}"
    try:
        storage.write_bytes(probe, b"now\n")
        return storage.modified_s(probe) - storage.modified_s(url)
    except FileNotFoundError:
        return None
    finally:
        storage.remove(probe)


def _missing_directories(location: str) -> list[Path]:
    """The local directories that a file in `location` needs and that do not exist, the deepest first."""
    if not storage.is_local(location):
        return []
    path = Path(storage.filesystem(location)[1])
    return [directory for directory in (path, *path.parents) if not directory.exists()]


def _interrupt() -> None:
    """Interrupt the main thread as SIGTERM does, or Ctrl-C where SIGTERM would end the process at once."""
    if signals.interrupt_main_thread():
        return  # the command line's watch: no signal counts as received
    for number in (signal.SIGTERM, signal.SIGINT):
        if callable(signal.getsignal(number)):
            os.kill(os.getpid(), number)
            return


def _do_nothing() -> None:
    """The caller looks at `is_lost`."""
