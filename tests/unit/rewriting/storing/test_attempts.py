"""The search finds the captions that kill engines, blames no other caption, and ends."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laclip_ray import storage
from laclip_ray.rewriting.storing.attempts import (
    MAX_FAILED_CAPTIONS,
    PIECES_PER_CUT,
    Attempt,
    AttemptLog,
    Piece,
    attempts_url,
    bounded_starts,
    piece_url,
    read_attempts,
    write_attempts,
)
from tests.cases import case

Ending = Literal["finished", "given up"]
Death = Literal["engine", "driver", "node"]
"""The engine or its actor died, or the driver, or the node with the actor."""


@dataclass
class Cluster:
    """Generates one shard as `ShardGenerator` does. Each death ends a try, and the next try starts."""

    captions: int
    poison: set[int]
    max_deaths: int
    other_death: Callable[[Piece, bool], Death | None] = lambda piece, alone: None
    """A death with another cause while a piece is generated, by the piece and whether it is alone."""
    log: AttemptLog = field(default_factory=AttemptLog)
    finished: set[tuple[int, int]] = field(default_factory=set)
    deaths: int = 0
    run: int = 0
    node: int = 0

    def generate(self) -> Ending:
        """Try until the shard is finished or given up."""
        while True:
            ending = self._try()
            if ending is not None:
                return ending
            self.deaths += 1
            assert self.deaths < 500, "there is no end"

    def _try(self) -> Ending | None:
        log = self.log
        if log.attempt:
            log = log.settle(f"run {self.run}", {f"node {self.node}"}, self.max_deaths)
        if not log.pieces:
            if self._dies(log, Piece(0, self.captions), alone=False):
                return None
            self.log = AttemptLog()
            self.finished = {(0, self.captions)}
            return "finished"
        if len(log.failed) > MAX_FAILED_CAPTIONS:
            self.log = replace(log, attempt=None)
            return "given up"
        for piece in log.pieces:
            rows = (piece.start, piece.stop)
            if rows in self.finished:
                continue
            if piece.stop - piece.start == 1 and piece.start in log.failed:
                self.finished.add(rows)
                continue
            if self._dies(log, piece, alone=True):
                return None
            self.finished.add(rows)
        self.log = replace(log, attempt=None)
        return "finished"

    def _dies(self, log: AttemptLog, piece: Piece, alone: bool) -> bool:
        self.log = log.begin(f"run {self.run}", f"node {self.node}", piece.start, piece.stop)
        death = self.other_death(piece, alone)
        if death == "driver":
            self.run += 1
        elif death == "node":
            self.node += 1
        return death is not None or any(piece.start <= row < piece.stop for row in self.poison)

    def rows_with_an_outcome(self) -> list[int]:
        return sorted(row for start, stop in self.finished for row in range(start, stop))


@st.composite
def shards(draw: st.DrawFn, max_poison: int = MAX_FAILED_CAPTIONS) -> tuple[int, set[int]]:
    captions = draw(st.integers(1, 3_000))
    return captions, draw(st.sets(st.integers(0, captions - 1), max_size=max_poison))


max_deaths_allowed = st.integers(1, 3)
random = st.integers(0, 2**32).map(Random)


@given(shard=shards(), max_deaths=max_deaths_allowed, random=random, rate=st.sampled_from([0.0, 0.1, 0.5]))
def test_exactly_the_deadly_captions_fail_whatever_else_dies(
    shard: tuple[int, set[int]], max_deaths: int, random: Random, rate: float
) -> None:
    def unrelated(piece: Piece, alone: bool) -> Death | None:
        return random.choice(("driver", "node")) if random.random() < rate and cluster.deaths < 100 else None

    captions, poison = shard
    cluster = Cluster(captions, poison, max_deaths, unrelated)
    assert cluster.generate() == "finished"
    assert sorted(cluster.log.failed) == sorted(poison)
    assert cluster.rows_with_an_outcome() == list(range(captions))


@given(shard=shards(), max_deaths=max_deaths_allowed, random=random)
def test_no_caption_is_blamed_for_fewer_deaths_alone_than_the_limit(
    shard: tuple[int, set[int]], max_deaths: int, random: Random
) -> None:
    alone_with: dict[int, int] = {}

    def engine_dies(piece: Piece, alone: bool) -> Death | None:
        if random.random() > 0.3 or cluster.deaths > 100:
            return None
        if alone and piece.stop - piece.start == 1:
            if piece.start in poison or alone_with.get(piece.start, 0) + 1 >= max_deaths:
                return None
            alone_with[piece.start] = alone_with.get(piece.start, 0) + 1
        return "engine"

    captions, poison = shard
    cluster = Cluster(captions, poison, max_deaths, engine_dies)
    assert cluster.generate() == "finished"
    assert sorted(cluster.log.failed) == sorted(poison)
    assert cluster.rows_with_an_outcome() == list(range(captions))


@given(shard=shards(), max_deaths=max_deaths_allowed)
def test_a_finished_piece_is_not_generated_again(shard: tuple[int, set[int]], max_deaths: int) -> None:
    generated: list[int] = []

    def record(piece: Piece, alone: bool) -> None:
        if not poison.intersection(range(piece.start, piece.stop)):
            generated.extend(range(piece.start, piece.stop))

    captions, poison = shard
    Cluster(captions, poison, max_deaths, record).generate()
    assert sorted(generated) == sorted({*range(captions)} - poison)


@settings(max_examples=20)
@given(
    captions=st.integers(MAX_FAILED_CAPTIONS + 1, 300),
    max_deaths=max_deaths_allowed,
    random=random,
    all_kill=st.booleans(),
)
def test_a_shard_with_too_many_deadly_captions_is_given_up(
    captions: int, max_deaths: int, random: Random, all_kill: bool
) -> None:
    count = captions if all_kill else random.randint(MAX_FAILED_CAPTIONS + 1, captions)
    poison = {*random.sample(range(captions), count)}
    cluster = Cluster(captions, poison, max_deaths)
    assert cluster.generate() == "given up"
    assert len(cluster.log.failed) == MAX_FAILED_CAPTIONS + 1
    assert {*cluster.log.failed} <= poison
    deaths = cluster.deaths
    cluster.run += 1
    assert cluster.generate() == "given up"
    assert cluster.deaths == deaths, "a given-up shard is tried again only after its log is removed"


@pytest.mark.parametrize("max_deaths", [1, 2, 5])
@pytest.mark.parametrize("row", [0, 1, 624, 625, 4_999, 9_998, 9_999])
def test_one_deadly_caption_of_ten_thousand_costs_few_engines(row: int, max_deaths: int) -> None:
    cluster = Cluster(10_000, {row}, max_deaths)
    assert cluster.generate() == "finished"
    assert cluster.log.failed == (row,)
    assert cluster.deaths <= 4 + max_deaths


def test_a_shard_without_deaths_leaves_no_log() -> None:
    cluster = Cluster(100, set(), 2)
    assert cluster.generate() == "finished"
    assert cluster.log == AttemptLog()


@given(start=st.integers(0, 100), length=st.integers(1, 3_000))
def test_a_cut_gives_few_smaller_pieces_that_cover_the_whole(start: int, length: int) -> None:
    parts = Piece(start, start + length, deaths=1).cut()
    assert [row for part in parts for row in range(part.start, part.stop)] == list(range(start, start + length))
    assert len(parts) <= PIECES_PER_CUT
    sizes = [part.stop - part.start for part in parts]
    assert min(sizes) > 0
    assert max(sizes) < length or length == 1
    assert {part.deaths for part in parts} == {0}


pieces = st.builds(Piece, st.integers(0, 99), st.integers(100, 199), st.integers(0, 3))
attempts = st.builds(Attempt, st.text(), st.text(), st.integers(0, 99), st.integers(100, 199))
logs = st.builds(
    AttemptLog,
    st.text(),
    st.lists(pieces, max_size=4).map(tuple),
    st.lists(st.integers(0, 99), max_size=3).map(tuple),
    st.none() | attempts,
)


@given(log=logs, run=st.text(), alive=st.booleans())
def test_a_death_of_another_run_or_with_its_node_changes_nothing(log: AttemptLog, run: str, alive: bool) -> None:
    attempt = log.attempt
    nodes = {attempt.node} if attempt and alive else {"another"} - ({attempt.node} if attempt else set())
    if attempt is None or attempt.run != run or attempt.node not in nodes:
        assert log.settle(run, nodes, 1) == replace(log, attempt=None)


@given(log=logs)
def test_a_log_survives_storage(log: AttemptLog) -> None:
    url = attempts_url(f"memory://unit-{uuid.uuid4().hex}", "sub/0.tar")
    write_attempts(url, log)
    has_content = bool(log.pieces or log.failed or log.attempt)
    assert storage.exists(url) == has_content
    assert read_attempts(url) == (log if has_content else AttemptLog())


@given(log=logs, run=st.text(), max_deaths=max_deaths_allowed, piece=pieces)
def test_a_log_keeps_its_work(log: AttemptLog, run: str, max_deaths: int, piece: Piece) -> None:
    attempt = log.attempt
    for current_run in (run, attempt.run) if attempt else (run,):
        settled = log.settle(current_run, {attempt.node} if attempt else set(), max_deaths)
        assert settled.work == log.work
        begun = settled.begin(current_run, "node", piece.start, piece.stop)
        assert (begun.work, begun.pieces) == (log.work, settled.pieces)


@pytest.mark.parametrize("location", ["logs", "memory://unit-logs"])
def test_an_empty_log_has_no_file(location: str) -> None:
    url = attempts_url(location, "0.tar")
    assert read_attempts(url) == AttemptLog()
    write_attempts(url, AttemptLog())
    write_attempts(url, AttemptLog().begin("run", "node", 0, 5))
    assert [storage.name_of(file) for file in storage.list_files(location)] == ["0.tar.json"]
    write_attempts(url, AttemptLog())
    assert storage.list_files(location) == []
    assert read_attempts(url) == AttemptLog()


@given(first=st.tuples(st.sampled_from(["0.tar", "0.tar.1-2", "1"]), pieces))
def test_pieces_lie_beside_their_log_and_have_urls_of_their_own(first: tuple[str, Piece]) -> None:
    shard, piece = first
    others = [Piece(piece.start, piece.stop + 1), Piece(piece.start + 1, piece.stop)]
    log = AttemptLog("work")
    urls = [
        attempts_url("set", shard),
        *(piece_url("set", shard, log, other) for other in (piece, *others)),
        piece_url("set", shard, AttemptLog("other"), piece),
    ]
    assert len({*urls}) == len(urls)
    assert piece_url("set", shard, log, Piece(piece.start, piece.stop, deaths=9)) == urls[1]
    directories = {storage.filesystem(url)[1].rpartition("/")[0] for url in urls}
    assert directories == {storage.filesystem("set/attempts")[1]}


@case(
    "Identity",
    "a damaged log of attempts (`attempts/SHARD.json`)",
    "it is named in a warning, and the shard starts again",
)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'{"work": "w"}',
        b'{"work": "", "pieces": [{}], "failed": [], "attempt": null}',
        b"\xff",
    ],
)
def test_a_damaged_log_is_an_empty_one(content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    url = attempts_url(str(tmp_path), "a.tar")
    storage.write_bytes(url, content)
    assert read_attempts(url) == AttemptLog()
    assert url in caplog.text


class Killed(BaseException):
    """Stands for the death of a process: no clean-up runs."""


@case(
    "Reading data",
    "pictures that kill each process of the picture gate",
    "after a bounded number of processes that shard fails; a later run tries again",
    exit_code=3,
)
def test_work_that_kills_its_processes_is_given_up_and_tried_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[int] = []

    def work(run: int) -> None:
        starts.append(run)
        raise Killed

    for run in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(storage, "remove", lambda url: None)
            for _ in range(3):
                with pytest.raises(Killed), bounded_starts(str(tmp_path), "a.tar", 3):
                    work(run)
        with (
            pytest.raises(RuntimeError, match="its process was killed 3 times"),
            bounded_starts(str(tmp_path), "a.tar", 3),
        ):
            work(run)
    assert starts == [0, 0, 0, 1, 1, 1]
    assert not storage.list_files(str(tmp_path))


def test_an_end_forgets_the_starts(tmp_path: Path) -> None:
    for _ in range(5):
        with bounded_starts(str(tmp_path), "a.tar", 1):
            pass
        with pytest.raises(ValueError, match="of the work"), bounded_starts(str(tmp_path), "a.tar", 1):
            raise ValueError("an error of the work")
    assert not storage.list_files(str(tmp_path))
