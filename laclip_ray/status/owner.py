"""Who writes to an output, and whether it seems alive: by the lease."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from laclip_ray import storage
from laclip_ray.lease import LEASE_FILE, RENEW_S, STALE_S, Holder
from laclip_ray.status.damage import Damage
from laclip_ray.status.store_times import times_of

State = Literal["running", "finished", "incomplete", "interrupted", "never started"]
"""`running`: its owner seems alive. `incomplete`: it ended with work left. `interrupted`: it ended without a word, or
by a signal."""


@dataclass(frozen=True)
class Owner:
    """The run that holds the lease of an output."""

    name: str | None
    """Verb, process, host and start. None: the lease is damaged."""
    age_s: float
    """Since the last sign of life, by the clock of the store."""
    is_of_store: bool
    """Whether the store's clock said so; else this machine's did."""
    is_dead: bool
    """Whether its process, on this machine, has ended."""
    since_s: float | None
    """Its start, by its host's clock."""
    now_s: float
    """The present, by the clock of the store."""

    @property
    def is_alive(self) -> bool:
        """Whether it seems to run."""
        return not self.is_dead and self.age_s <= STALE_S

    @property
    def verdict(self) -> str:
        """Whether it seems alive, and why, in a sentence."""
        clock = "" if self.is_of_store else ", by this machine's clock"
        seen = f"last sign of life {self.age_s:.0f} s ago{clock}"
        if self.is_dead:
            return f"its process has ended without a word; {seen}"
        if self.age_s > STALE_S:
            return f"seems dead: {seen}, and a run shows one every {RENEW_S:.0f} s"
        return f"seems alive: {seen}"


def read_owner(location: str, damage: Damage) -> Owner | None:
    """The owner of an output; None if no run holds its lease.

    Args:
        location: the directory or URL of the output.
        damage: gets a sentence about a damaged lease.
    """
    url = storage.join(location, LEASE_FILE)
    content = damage.read_bytes(url, "the lease")
    times = times_of(url) if content is not None else None
    if content is None or times is None:
        return None
    holder = _parse(content)
    if holder is None:
        damage.found.append(
            f"{url}: the lease is damaged, so its owner is unknown. A run takes it over when it is {STALE_S:.0f} s old"
        )
        return Owner(None, times.age_s, times.is_of_store, False, None, times.now_s)
    return Owner(str(holder), times.age_s, times.is_of_store, holder.is_dead, _start_of(holder), times.now_s)


def _parse(content: bytes) -> Holder | None:
    holder = Holder.from_bytes(content)
    is_whole = holder is not None and all(
        isinstance(value, kind)
        for value, kind in ((holder.verb, str), (holder.host, str), (holder.since, str), (holder.pid, int))
    )
    return holder if is_whole else None


def _start_of(holder: Holder) -> float | None:
    try:
        return datetime.strptime(holder.since, "%Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def state_of(owner: Owner | None, has_begun: bool, is_complete: bool | None) -> State:
    """The state of a run.

    Args:
        owner: of its output.
        has_begun: whether it has written anything.
        is_complete: whether it ended with all of its work done, or with some left. None: it has not ended.
    """
    if owner is not None:
        return "running" if owner.is_alive else "interrupted"
    if is_complete is not None:
        return "finished" if is_complete else "incomplete"
    return "interrupted" if has_begun else "never started"
