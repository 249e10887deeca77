"""Which caption kills its engine: a shard's ledger of attempts, in storage.

Before a shard is generated, the attempt is recorded; afterwards the record is removed. A record found by the next
attempt means that the engine, or its actor, died over these rows, and they are suspects: they are cut into pieces,
each of which is generated with nothing else in hand. What a piece gives is kept, so that only the piece that kills
is cut further, until one caption is left. A caption that kills `max_deaths` engines alone has failed.

Guarantees: a caption is never blamed for a death that it did not see alone. Deaths that have another cause do not
count: the node was lost, or the driver was (its run is another).

Not covered: two captions that kill only together.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

from laclip_ray import storage

WAYS = 16
"""Pieces that a suspect piece is cut into: 10,000 captions are down to one after four deaths."""
MAX_FAILED_CAPTIONS = 8
"""A shard in which more captions than this killed their engines is given up: it is not the captions."""


@dataclass(frozen=True)
class Piece:
    """Rows of a shard that are generated together."""

    start: int
    stop: int
    deaths: int = 0
    """Engines that died over just these rows, alone."""

    def cut(self) -> list["Piece"]:
        """At most `WAYS` pieces of nearly equal size."""
        size = max(1, -(-(self.stop - self.start) // WAYS))
        return [Piece(start, min(start + size, self.stop)) for start in range(self.start, self.stop, size)]


@dataclass(frozen=True)
class Attempt:
    """Who generates what."""

    run: str
    node: str
    start: int
    stop: int


@dataclass(frozen=True)
class AttemptLog:
    """The pieces of a shard: empty for one that has killed no engine."""

    work: str = ""
    """What was being made of which captions, as a fingerprint: pieces of other work are of no use."""
    pieces: tuple[Piece, ...] = ()
    failed: tuple[int, ...] = ()
    """Rows of captions that killed their engines."""
    attempt: Attempt | None = None
    """The attempt that is being made, or was when its actor died."""

    def settle(self, run: str, alive_nodes: set[str], max_deaths: int) -> "AttemptLog":
        """What the attempt that was found says about its rows."""
        found = self.attempt
        if found is None or found.run != run or found.node not in alive_nodes:
            return replace(self, attempt=None)
        if not self.pieces:
            pieces = Piece(found.start, found.stop).cut()
            # A single caption was alone, though perhaps beside other shards: that does not count against it.
            return AttemptLog(self.work, tuple(pieces))
        settled: list[Piece] = []
        failed = list(self.failed)
        for piece in self.pieces:
            if (piece.start, piece.stop) != (found.start, found.stop):
                settled.append(piece)
            elif piece.stop - piece.start > 1:
                settled.extend(piece.cut())
            elif piece.deaths + 1 < max_deaths:
                settled.append(replace(piece, deaths=piece.deaths + 1))
            else:
                settled.append(piece)
                failed.append(piece.start)
        return AttemptLog(self.work, tuple(settled), tuple(failed))

    def begin(self, run: str, node: str, start: int, stop: int) -> "AttemptLog":
        """The ledger with an attempt at these rows."""
        return replace(self, attempt=Attempt(run, node, start, stop))


def attempts_url(location: str, shard_name: str) -> str:
    """Where a shard's ledger is, in a rewrite set."""
    return storage.join(location, "attempts", f"{shard_name}.json")


def piece_url(location: str, shard_name: str, ledger: AttemptLog, piece: Piece) -> str:
    """Where the draws of a finished piece are kept until the shard is committed."""
    return storage.join(location, "attempts", f"{shard_name}.{ledger.work}.{piece.start}-{piece.stop}.arrow")


def remove_pieces(location: str, shard_name: str, ledger: AttemptLog) -> None:
    """Remove the kept draws of a ledger's pieces."""
    for piece in ledger.pieces:
        storage.remove(piece_url(location, shard_name, ledger, piece))


def read_attempts(url: str) -> AttemptLog:
    """The ledger at `url`; an empty one if there is none."""
    try:
        content: dict[str, Any] = storage.read_json(url)
    except FileNotFoundError:
        return AttemptLog()
    attempt = content["attempt"]
    return AttemptLog(
        content["work"],
        tuple(Piece(**piece) for piece in content["pieces"]),
        tuple(content["failed"]),
        Attempt(**attempt) if attempt else None,
    )


def write_attempts(url: str, ledger: AttemptLog) -> None:
    """Commit a ledger; one that says nothing is removed."""
    if ledger == AttemptLog(ledger.work):
        storage.remove(url)
    else:
        storage.write_json(url, asdict(ledger))
