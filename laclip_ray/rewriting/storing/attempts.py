"""A shard's attempts, recorded in storage: they find the caption that kills engines.

Before a shard is generated, the attempt is recorded; after its success the record is removed. If the next attempt finds
a record, the engine or its actor died over the recorded rows. These rows are suspects. They are cut into pieces, and
each piece is generated alone: no other shard is in flight. A finished piece is kept in storage, and only the piece that
kills an engine is cut further, until a single caption remains. A caption that kills `max_deaths` engines alone has
failed.

Guarantees: a caption is never blamed for a death in company. Deaths with another cause do not count: the node was lost,
or the driver died (the next driver is another run).

The picture gate's actors have a simpler record: how often work on a shard has begun without an end (`bounded_starts`).

Not covered: two captions that kill an engine only together.
"""

import contextlib
import logging
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from laclip_ray import storage
from laclip_ray.printable import printable_line
from laclip_ray.rewriting.row_errors import one_line
from laclip_ray.rewriting.storing.shard_files import path_of_shard

logger = logging.getLogger(__name__)

PIECES_PER_CUT = 16
"""Pieces from one cut of a suspect piece: four deaths reduce 10,000 captions to one."""

MAX_FAILED_CAPTIONS = 8
"""A shard with more failed captions than this is given up: the engine is at fault, not the captions."""


@dataclass(frozen=True)
class Piece:
    """Rows of a shard, generated together."""

    start: int
    stop: int
    deaths: int = 0
    """Engines that died over exactly these rows, alone."""

    def cut(self) -> list["Piece"]:
        """Cut into at most `PIECES_PER_CUT` pieces of nearly equal size."""
        size = max(1, -(-(self.stop - self.start) // PIECES_PER_CUT))
        return [Piece(start, min(start + size, self.stop)) for start in range(self.start, self.stop, size)]


@dataclass(frozen=True)
class Attempt:
    """An attempt to generate some rows."""

    run: str
    """Names the run of the driver."""
    node: str
    """Ray's id of the actor's node."""
    start: int
    stop: int


@dataclass(frozen=True)
class AttemptLog:
    """The attempts at one shard. A shard that has killed no engine has no pieces."""

    work: str = ""
    """A fingerprint of the captions and of the work on them. Pieces of other work are useless."""
    pieces: tuple[Piece, ...] = ()
    failed: tuple[int, ...] = ()
    """Rows of captions that killed their engines."""
    attempt: Attempt | None = None
    """The attempt in progress, or the attempt whose actor died."""

    def settle(self, run: str, alive_nodes: Collection[str], max_deaths: int) -> "AttemptLog":
        """Blame the rows of an unfinished attempt.

        Args:
            run: the current run. An attempt of another run ended with its driver and blames no rows.
            alive_nodes: an attempt on a lost node blames no rows.
            max_deaths: engines that a caption may kill alone; with the last one it has failed.

        Returns:
            The log without the attempt, and with the pieces to generate next.
        """
        attempt = self.attempt
        if attempt is None or attempt.run != run or attempt.node not in alive_nodes:
            return replace(self, attempt=None)
        if not self.pieces:
            pieces = Piece(attempt.start, attempt.stop).cut()
            # Even a single caption starts with no deaths here: other shards may have been in flight.
            return AttemptLog(self.work, tuple(pieces))
        settled: list[Piece] = []
        failed = list(self.failed)
        for piece in self.pieces:
            if (piece.start, piece.stop) != (attempt.start, attempt.stop):
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
        """The log with an attempt at the rows from `start` to before `stop`."""
        return replace(self, attempt=Attempt(run, node, start, stop))


def attempts_url(location: str, shard_name: str) -> str:
    """URL of a shard's attempt log in a rewrite set."""
    return storage.join(location, "attempts", f"{path_of_shard(shard_name)}.json")


def piece_url(location: str, shard_name: str, log: AttemptLog, piece: Piece) -> str:
    """URL of a finished piece's draws. They are kept until the shard is committed."""
    name = f"{path_of_shard(shard_name)}.{log.work}.{piece.start}-{piece.stop}.arrow"
    return storage.join(location, "attempts", name)


def remove_pieces(location: str, shard_name: str, log: AttemptLog) -> None:
    """Remove the kept draws of the log's pieces."""
    for piece in log.pieces:
        storage.remove(piece_url(location, shard_name, log, piece))


@contextlib.contextmanager
def bounded_starts(location: str, shard_name: str, most: int) -> Iterator[None]:
    """Run the body, whose process may be killed over this shard. Ray starts it again without end.

    Raises:
        RuntimeError: `most` processes have been killed. The record is removed, so a later run tries again.
    """
    url = storage.join(location, "attempts", f"{path_of_shard(shard_name)}.starts.json")
    try:
        starts = int(storage.read_json(url))
    except (FileNotFoundError, ValueError, TypeError):
        starts = 0
    if starts < most:
        storage.write_json(url, starts + 1)
    try:
        if starts >= most:
            raise RuntimeError(killed_message(starts))
        yield
    finally:
        storage.remove(url)


def killed_message(deaths: int) -> str:
    """Why work on a shard is not tried again."""
    return f"its process was killed {deaths} times, perhaps for lack of memory"


def read_attempts(url: str) -> AttemptLog:
    """Read the log at `url`. An empty one if there is no such file, or a damaged one: the search starts again."""
    try:
        content: dict[str, Any] = storage.read_json(url)
        attempt = content["attempt"]
        return AttemptLog(
            content["work"],
            tuple(Piece(**piece) for piece in content["pieces"]),
            tuple(content["failed"]),
            Attempt(**attempt) if attempt else None,
        )
    except FileNotFoundError:
        return AttemptLog()
    except (ValueError, KeyError, TypeError) as error:
        logger.warning("%s is damaged (%s); the shard starts again", printable_line(url), one_line(error))
        return AttemptLog()


def write_attempts(url: str, log: AttemptLog) -> None:
    """Commit a log. An empty log removes the file."""
    if log == AttemptLog(log.work):
        storage.remove(url)
    else:
        storage.write_json(url, asdict(log))
