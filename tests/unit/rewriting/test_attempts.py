"""Captions that kill their engines are found, no other one is blamed, and the search ends."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laclip_ray import storage
from laclip_ray.rewriting.attempts import (
    MAX_FAILED_CAPTIONS,
    WAYS,
    Attempt,
    AttemptLog,
    Piece,
    attempts_url,
    piece_url,
    read_attempts,
    write_attempts,
)

Ending = Literal["finished", "given up"]
Death = Literal["engine", "driver", "node"]
"""What is gone: the engine or its actor; all of the run; or the node, with the actor."""


@dataclass
class Cluster:
    """Generates one shard as `RewritingActor` does, a death ending each try, and starts again after each."""

    captions: int
    poison: set[int]
    max_deaths: int
    other_death: Callable[[Piece, bool], Death | None] = lambda piece, alone: None
    """Whether something dies while a piece is generated that would not kill; and what."""
    ledger: AttemptLog = field(default_factory=AttemptLog)
    finished: set[tuple[int, int]] = field(default_factory=set)
    deaths: int = 0
    run: int = 0
    node: int = 0

    def generate(self) -> Ending:
        """Go on until there is an ending."""
        while True:
            ending = self._try()
            if ending is not None:
                return ending
            self.deaths += 1
            assert self.deaths < 500, "there is no end"

    def _try(self) -> Ending | None:
        ledger = self.ledger
        if ledger.attempt:
            ledger = ledger.settle(f"run {self.run}", {f"node {self.node}"}, self.max_deaths)
        if not ledger.pieces:
            if self._dies(ledger, Piece(0, self.captions), alone=False):
                return None
            self.ledger = AttemptLog()
            self.finished = {(0, self.captions)}
            return "finished"
        if len(ledger.failed) > MAX_FAILED_CAPTIONS:
            self.ledger = replace(ledger, attempt=None)
            return "given up"
        for piece in ledger.pieces:
            rows = (piece.start, piece.stop)
            if rows in self.finished:
                continue
            if piece.stop - piece.start == 1 and piece.start in ledger.failed:
                self.finished.add(rows)
                continue
            if self._dies(ledger, piece, alone=True):
                return None
            self.finished.add(rows)
        self.ledger = replace(ledger, attempt=None)
        return "finished"

    def _dies(self, ledger: AttemptLog, piece: Piece, alone: bool) -> bool:
        self.ledger = ledger.begin(f"run {self.run}", f"node {self.node}", piece.start, piece.stop)
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


@settings(max_examples=60)
@given(shard=shards(), max_deaths=max_deaths_allowed, random=random, rate=st.sampled_from([0.0, 0.1, 0.5]))
def test_exactly_the_captions_that_kill_have_failed_whatever_else_dies(
    shard: tuple[int, set[int]], max_deaths: int, random: Random, rate: float
) -> None:
    def unrelated(piece: Piece, alone: bool) -> Death | None:
        return random.choice(("driver", "node")) if random.random() < rate and cluster.deaths < 100 else None

    captions, poison = shard
    cluster = Cluster(captions, poison, max_deaths, unrelated)
    assert cluster.generate() == "finished"
    assert sorted(cluster.ledger.failed) == sorted(poison)
    assert cluster.rows_with_an_outcome() == list(range(captions))


@settings(max_examples=60)
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
    assert sorted(cluster.ledger.failed) == sorted(poison)
    assert cluster.rows_with_an_outcome() == list(range(captions))


@settings(max_examples=30)
@given(shard=shards(), max_deaths=max_deaths_allowed)
def test_what_is_finished_is_not_generated_again(shard: tuple[int, set[int]], max_deaths: int) -> None:
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
def test_a_shard_with_more_killing_captions_is_given_up(
    captions: int, max_deaths: int, random: Random, all_kill: bool
) -> None:
    count = captions if all_kill else random.randint(MAX_FAILED_CAPTIONS + 1, captions)
    poison = {*random.sample(range(captions), count)}
    cluster = Cluster(captions, poison, max_deaths)
    assert cluster.generate() == "given up"
    assert len(cluster.ledger.failed) == MAX_FAILED_CAPTIONS + 1
    assert {*cluster.ledger.failed} <= poison
    deaths = cluster.deaths
    cluster.run += 1
    assert cluster.generate() == "given up"
    assert cluster.deaths == deaths, "it is tried again only if its ledger is removed"


@pytest.mark.parametrize("max_deaths", [1, 2, 5])
@pytest.mark.parametrize("row", [0, 1, 624, 625, 4_999, 9_998, 9_999])
def test_one_killing_caption_of_ten_thousand_costs_few_engines(row: int, max_deaths: int) -> None:
    cluster = Cluster(10_000, {row}, max_deaths)
    assert cluster.generate() == "finished"
    assert cluster.ledger.failed == (row,)
    assert cluster.deaths <= 4 + max_deaths


def test_a_shard_without_deaths_leaves_no_ledger() -> None:
    cluster = Cluster(100, set(), 2)
    assert cluster.generate() == "finished"
    assert cluster.ledger == AttemptLog()


@given(start=st.integers(0, 100), length=st.integers(1, 3_000))
def test_a_piece_is_cut_into_few_smaller_ones_that_are_all_of_it(start: int, length: int) -> None:
    parts = Piece(start, start + length, deaths=1).cut()
    assert [row for part in parts for row in range(part.start, part.stop)] == list(range(start, start + length))
    assert len(parts) <= WAYS
    sizes = [part.stop - part.start for part in parts]
    assert min(sizes) > 0
    assert max(sizes) < length or length == 1
    assert {part.deaths for part in parts} == {0}


pieces = st.builds(Piece, st.integers(0, 99), st.integers(100, 199), st.integers(0, 3))
attempts = st.builds(Attempt, st.text(), st.text(), st.integers(0, 99), st.integers(100, 199))
ledgers = st.builds(
    AttemptLog,
    st.text(),
    st.lists(pieces, max_size=4).map(tuple),
    st.lists(st.integers(0, 99), max_size=3).map(tuple),
    st.none() | attempts,
)


@given(ledger=ledgers, run=st.text(), alive=st.booleans())
def test_a_death_of_another_run_or_with_its_node_changes_nothing(ledger: AttemptLog, run: str, alive: bool) -> None:
    found = ledger.attempt
    nodes = {found.node} if found and alive else {"another"} - ({found.node} if found else set())
    if found is None or found.run != run or found.node not in nodes:
        assert ledger.settle(run, nodes, 1) == replace(ledger, attempt=None)


@settings(max_examples=50)
@given(ledger=ledgers)
def test_a_ledger_comes_back_from_storage(ledger: AttemptLog) -> None:
    url = attempts_url(f"memory://unit-{uuid.uuid4().hex}", "sub/0.tar")
    write_attempts(url, ledger)
    says_something = bool(ledger.pieces or ledger.failed or ledger.attempt)
    assert storage.exists(url) == says_something
    assert read_attempts(url) == (ledger if says_something else AttemptLog())


@given(ledger=ledgers, run=st.text(), max_deaths=max_deaths_allowed, piece=pieces)
def test_a_ledger_stays_one_of_its_work(ledger: AttemptLog, run: str, max_deaths: int, piece: Piece) -> None:
    found = ledger.attempt
    for each in (run, found.run) if found else (run,):
        settled = ledger.settle(each, {found.node} if found else set(), max_deaths)
        assert settled.work == ledger.work
        begun = settled.begin(each, "node", piece.start, piece.stop)
        assert (begun.work, begun.pieces) == (ledger.work, settled.pieces)


@pytest.mark.parametrize("place", ["ledgers", "memory://unit-ledgers"])
def test_an_empty_ledger_is_no_file(place: str) -> None:
    url = attempts_url(place, "0.tar")
    assert read_attempts(url) == AttemptLog()
    write_attempts(url, AttemptLog())
    write_attempts(url, AttemptLog().begin("run", "node", 0, 5))
    assert [storage.name_of(found) for found in storage.list_files(place)] == ["0.tar.json"]
    write_attempts(url, AttemptLog())
    assert storage.list_files(place) == []
    assert read_attempts(url) == AttemptLog()


@given(first=st.tuples(st.sampled_from(["0.tar", "0.tar.1-2", "1"]), pieces))
def test_pieces_lie_beside_their_ledger_each_in_a_place_of_its_own(first: tuple[str, Piece]) -> None:
    shard, piece = first
    others = [Piece(piece.start, piece.stop + 1), Piece(piece.start + 1, piece.stop)]
    ledger = AttemptLog("work")
    places = [
        attempts_url("set", shard),
        *(piece_url("set", shard, ledger, each) for each in (piece, *others)),
        piece_url("set", shard, AttemptLog("other"), piece),
    ]
    assert len({*places}) == len(places)
    assert piece_url("set", shard, ledger, Piece(piece.start, piece.stop, deaths=9)) == places[1]
    assert {storage.filesystem(place)[1].rpartition("/")[0] for place in places} == {
        storage.filesystem("set/attempts")[1]
    }
