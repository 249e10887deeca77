"""The text choice by scores, and the share of refused rewrites: shares, nesting, and independence of the world size.

Four rewrite sets are written to storage, with random acceptance and random scores, and read as training reads them.
"""

import logging
import math
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from laclip_ray.config import DataConfig, StreamConfig, TextConfig
from laclip_ray.data.entries import StreamSpec
from laclip_ray.data.records import hash_caption
from laclip_ray.data.schedule import Position, Schedule
from laclip_ray.data.shards import list_shards
from laclip_ray.data.stream import build_stream
from laclip_ray.data.text_choice import SHOWS_REWRITE, UNSCORED, TextChoice, TextPolicy, text_policy
from laclip_ray.data.tokens import TokenizerSpec, load_clip_tokenizer
from laclip_ray.randomness import uniform
from laclip_ray.rewriting.storing.sets import RewriteSets
from laclip_ray.rewriting.storing.store import RewriteSet, commit_verdicts, write_draws
from laclip_ray.rewriting.tables import Origin
from tests.figures.figure import Figure
from tests.unit.conftest import SMALL, picture, write_tar
from tests.unit.rewriting.shards import Draw, reasons_of, table_of

_SETS, _SAMPLES, _EPOCHS, _SEED = 4, 4_000, 6, 7
_ACCEPTED, _SCORED = 0.6, 0.95
"""Share of accepted rewrites, and of samples with scores."""
_LARGEST_Z = 4.0
"""Bar of each group's distance from its expected count, in standard deviations: about 1 group in 16,000 exceeds it."""

_BY_PICTURE = {"by": "caption_picture", "low": 0.1, "high": 0.3, "p_low": 0.9, "p_high": 0.2, "unscored": 0.5}
_BY_MEANING = {"by": "meaning", "low": 0.2, "high": 0.8, "p_low": 0.1, "p_high": 0.9, "unscored": 0.5}
_TEMPERATURE = 0.25
_BY_CHOICE = {"by": "meaning", "temperature": _TEMPERATURE}


class _Rewrite(NamedTuple):
    """An accepted rewrite, as the figures know it apart from storage."""

    text: str
    meaning: float | None


@dataclass(frozen=True)
class _Sample:
    id: str
    caption: str
    caption_picture: float | None
    rewrites: Sequence[_Rewrite]


def choice(show: int) -> Iterator[Figure]:
    """All figures of the text choice.

    Args:
        show: the number of the show that the figures belong to.
    """
    with tempfile.TemporaryDirectory() as directory:
        world = _World(Path(directory), _SAMPLES)
        yield from _paper(show, world)
        yield from _by_scores(show, world)
        yield from _nesting(show, world)
    with tempfile.TemporaryDirectory() as directory:
        yield from _world_sizes(show, Path(directory))


class _World:
    """Samples with four rewrite sets in storage."""

    def __init__(self, directory: Path, samples: int) -> None:
        self.samples = [_sample(number) for number in range(samples)]
        self.sets = tuple(_write_set(directory / f"set{number}", number, samples) for number in range(_SETS))

    def rewrites(self, text: TextConfig) -> RewriteSets:
        """The sets as a run with this configuration reads them."""
        return RewriteSets(self.sets, scores=tuple(text.scores.values()), refused=text.refused).counted()

    def choices(self, **settings: Any) -> Iterator[tuple[_Sample, TextChoice]]:
        """The choice of each sample in each epoch."""
        text = TextConfig.model_validate(settings)
        rewrites = self.rewrites(text)
        policy = text_policy(text, _EPOCHS, rewrites.most_rewrites())
        found = rewrites.rewrites("0.tar")
        assert found is not None
        for row, sample in enumerate(self.samples):
            of_sample = found.of(sample.id, hash_caption(sample.caption), row)
            for epoch in range(_EPOCHS):
                yield sample, policy.choose(sample.caption, of_sample, _SEED, epoch, sample.id)


def _is_accepted(number: int, rewrite_set: int) -> bool:
    return uniform("accepted", number, rewrite_set) < _ACCEPTED


def _meaning(number: int, rewrite_set: int) -> float | None:
    return uniform("meaning", number, rewrite_set) if uniform("scored", number) < _SCORED else None


def _sample(number: int) -> _Sample:
    is_scored = uniform("scored", number) < _SCORED
    rewrites = [
        _Rewrite(f"rewrite {number} of set {one}", _meaning(number, one))
        for one in range(_SETS)
        if _is_accepted(number, one)
    ]
    similarity = 0.4 * uniform("picture", number) if is_scored else None
    return _Sample(f"k{number}", f"caption {number}", similarity, rewrites)


def _write_set(directory: Path, number: int, samples: int) -> RewriteSet:
    rewrite_set = RewriteSet(str(directory), "gate")
    draws = [
        Draw(f"k{row}", f"caption {row}", f"rewrite {row} of set {number}", None if _is_accepted(row, number) else "x")
        for row in range(samples)
    ]
    table, origin = table_of(draws), Origin("file", "inputs", 1, draws_id="draws")
    scores = {
        "meaning": pa.array([_meaning(row, number) for row in range(samples)], pa.float32()),
        "caption_picture": pa.array([_sample(row).caption_picture for row in range(samples)], pa.float32()),
    }
    write_draws(rewrite_set, "0.tar", 0, table, origin)
    scorers = dict.fromkeys(scores, "figures")
    commit_verdicts(rewrite_set, "0.tar", 0, table, reasons_of(draws), origin, scores, scorers)
    return rewrite_set.pinned()


class _Groups:
    """Counts of events with known probabilities, by group."""

    def __init__(self) -> None:
        self._counts: dict[Any, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])

    def add(self, group: Any, happened: bool, probability: float) -> None:
        """Add one event."""
        counts = self._counts[group]
        counts[0] += happened
        counts[1] += probability
        counts[2] += probability * (1 - probability)

    @property
    def largest_z(self) -> float:
        """The largest distance of a count from its expected value, in standard deviations."""
        return max(abs(seen - expected) / math.sqrt(variance) for seen, expected, variance in self._counts.values())

    def figure(self, show: int, name: str) -> Figure:
        """The largest distance, against its bar."""
        return Figure(
            show, f"{name}: farthest of {len(self._counts)} groups from its expected count", self.largest_z,
            "standard deviations", at_most=_LARGEST_Z,
        )  # fmt: skip


def _paper(show: int, world: _World) -> Iterator[Figure]:
    """The paper's choice: with M slots, each accepted rewrite has one share of 1 + M, however many were refused."""
    for refused in ("others", "caption"):
        shown, count = 0, 0
        for sample, chosen in world.choices(p="uniform", refused=refused):
            if len(sample.rewrites) == 1:
                shown, count = shown + (chosen.shown in SHOWS_REWRITE), count + 1
        name = f"one accepted of {_SETS}, p: uniform, refused: {refused}: share of its epochs"
        yield Figure(show, name, shown / count, "share")
    for p, share in (("uniform", 1 / (1 + _SETS)), (0.5, 0.5 / _SETS)):
        groups = _Groups()
        for sample, chosen in world.choices(p=p, refused="caption"):
            for place, rewrite in enumerate(sample.rewrites):
                groups.add((len(sample.rewrites), place), chosen.text == rewrite.text, share)
        yield groups.figure(show, f"p: {p}, refused: caption, by number of accepted rewrites and place")


def _ramp(ramp: dict[str, Any], score: float | None) -> float:
    """p by the documented rule."""
    if score is None:
        return float(ramp["unscored"])
    if score <= ramp["low"]:
        return float(ramp["p_low"])
    if score >= ramp["high"]:
        return float(ramp["p_high"])
    slope = (ramp["p_high"] - ramp["p_low"]) / (ramp["high"] - ramp["low"])
    return float(ramp["p_low"] + slope * (score - ramp["low"]))


def _tenth(score: float | None, largest: float) -> int | None:
    return None if score is None else int(10 * score / largest)


def _by_scores(show: int, world: _World) -> Iterator[Figure]:
    """p and the choice by scores: shares by tenths of the score; samples without a score are counted."""
    unscored, expected_unscored, groups = 0, 0, _Groups()
    for sample, chosen in world.choices(p=_BY_PICTURE):
        if not sample.rewrites:
            continue
        p = _ramp(_BY_PICTURE, sample.caption_picture)
        groups.add(_tenth(sample.caption_picture, 0.4), chosen.shown in SHOWS_REWRITE, p)
        unscored += chosen.shown in UNSCORED
        expected_unscored += sample.caption_picture is None
    yield groups.figure(show, "p by caption_picture, by tenths of the score")
    for refused in ("others", "caption"):
        groups = _Groups()
        for sample, chosen in world.choices(p=_BY_MEANING, refused=refused):
            slots = _SETS if refused == "caption" else len(sample.rewrites)
            for rewrite in sample.rewrites:
                p = _ramp(_BY_MEANING, rewrite.meaning) / slots
                groups.add(_tenth(rewrite.meaning, 1.0), chosen.text == rewrite.text, p)
        yield groups.figure(show, f"p by meaning, refused: {refused}, by tenths of the rewrite's score")
    groups = _Groups()
    for sample, chosen in world.choices(p=0.8, choice=_BY_CHOICE):
        weights = [1.0 if each.meaning is None else math.exp(each.meaning / _TEMPERATURE) for each in sample.rewrites]
        for rewrite, weight in zip(sample.rewrites, weights, strict=True):
            groups.add(
                (len(weights), _tenth(rewrite.meaning, 1.0)), chosen.text == rewrite.text, 0.8 * weight / sum(weights)
            )
    yield groups.figure(show, "choice by meaning, by number of rewrites and tenths of the score")
    name = "samples without the score, counted against known"
    yield Figure(show, name, unscored / expected_unscored, "ratio", at_least=1.0, at_most=1.0)


_RISING: dict[str, Sequence[Any]] = {
    "numbers": [0.2, 0.5, 0.9],
    "ramps over epochs": [{"start": low, "end": low + 0.3} for low in (0.1, 0.4, 0.7)],
    "ramps over caption_picture": [{**_BY_PICTURE, "p_low": p, "p_high": p / 2, "unscored": p} for p in (0.3, 0.6, 1)],
    "ramps over meaning": [{**_BY_MEANING, "p_low": p / 2, "p_high": p, "unscored": p} for p in (0.3, 0.6, 1)],
}
"""Values of `text.p`, each nowhere smaller than the one before."""


def _nesting(show: int, world: _World) -> Iterator[Figure]:
    """A text that is a rewrite at some p is the same rewrite at every larger p."""
    for name, values in _RISING.items():
        torn, kept = 0, 0
        for more in ({}, {"refused": "caption"}, {"choice": _BY_CHOICE}, {"choice": _BY_CHOICE, "refused": "caption"}):
            runs = [[chosen for _, chosen in world.choices(p=p, **more)] for p in values]
            for smaller, larger in pairwise(runs):
                for one, other in zip(smaller, larger, strict=True):
                    if one.shown in SHOWS_REWRITE:
                        torn += other.text != one.text
                        kept += 1
        yield Figure(show, f"not nested, of {kept:,} rewrites at a smaller p ({name})", torn, "texts", at_most=0)


_STREAM_SAMPLES, _STREAM_SHARDS, _WORLD_SIZES = 300, 3, (1, 2, 3)


def _world_sizes(show: int, directory: Path) -> Iterator[Figure]:
    """The stream deals its rows to workers: a sample shows the same text in an epoch, whichever worker gets it."""
    import ray

    spec = _stream_spec(directory)
    ray.init(num_cpus=4, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    try:
        shown = {size: _shown_by_workers(spec, size) for size in _WORLD_SIZES}
    finally:
        ray.shutdown()
    first = shown[_WORLD_SIZES[0]]
    expected = _shown_by_rule(spec)
    yield Figure(show, "samples and epochs read by one worker", len(first) / len(expected), "share", at_least=1.0)
    for size, texts in shown.items():
        differ = sum(text != expected[key] for key, text in texts.items())
        name = f"texts of {len(texts):,} that differ from the pure choice, {size} workers"
        yield Figure(show, name, differ, "texts", at_most=0)


def _stream_spec(directory: Path) -> StreamSpec:
    """A stream over three shards, whose p and choice depend on scores."""
    number = iter(range(_STREAM_SAMPLES))
    for shard in range(_STREAM_SHARDS):
        members: list[tuple[str, bytes]] = []
        for sample in [next(number) for _ in range(_STREAM_SAMPLES // _STREAM_SHARDS)]:
            members += [(f"k{sample}.png", picture()), (f"k{sample}.txt", f"caption {sample}".encode())]
        write_tar(directory / "data" / f"{shard}.tar", members)
    data = DataConfig(path=str(directory / "data"))
    text = TextConfig.model_validate({"p": _BY_MEANING, "choice": _BY_CHOICE, "refused": "caption"})
    rewrites = _Joined(_World(directory, _STREAM_SAMPLES).rewrites(text))
    policy: TextPolicy = text_policy(text, _EPOCHS, _SETS)
    shards = tuple(list_shards(data))
    return StreamSpec(
        data=data,
        stream=StreamConfig(rows_per_block=16),
        shards=shards,
        schedule=Schedule(len(shards), _EPOCHS, _SEED),
        rewrites=rewrites,
        text=policy,
        seed=_SEED,
        image=SMALL,
        tokenizer=TokenizerSpec(None, 16, None),
        dealt_rows=4,
    )


@dataclass(frozen=True)
class _Joined:
    """Every shard's samples are in one shard of the sets."""

    sets: RewriteSets

    def rewrites(self, shard_name: str) -> Any:
        """See `RewriteLookup`."""
        return self.sets.rewrites("0.tar")


_Shown = dict[tuple[int, str], tuple[int, ...]]
"""The tokens of the text shown, by (epoch, id)."""


def _shown_by_workers(spec: StreamSpec, size: int) -> _Shown:
    """What this many workers get from one stream together."""
    shown: _Shown = {}

    def consume(batches: Iterable[dict[str, Any]]) -> None:
        for batch in batches:
            columns = zip(batch["schedule_index"], batch["id"], batch["tokens"], strict=True)
            shown.update(
                {
                    (int(index) // len(spec.shards), str(key)): tuple(tokens[0].tolist())
                    for index, key, tokens in columns
                }
            )

    parts = build_stream(spec, Position()).streaming_split(size, equal=size > 1)
    workers = [_started(consume, part.iter_batches(batch_size=16, batch_format="numpy")) for part in parts]
    for worker in workers:
        worker.join()
    return shown


def _started(consume: Callable[[Any], None], batches: Any) -> threading.Thread:
    thread = threading.Thread(target=consume, args=(batches,))
    thread.start()
    return thread


def _shown_by_rule(spec: StreamSpec) -> _Shown:
    """What the pure choice gives, without a stream."""
    tokenizer = load_clip_tokenizer(spec.tokenizer)
    assert spec.rewrites is not None
    found = spec.rewrites.rewrites("")
    assert found is not None
    shown: _Shown = {}
    for epoch in range(spec.schedule.epochs):
        samples = [(f"k{row}", f"caption {row}", row) for row in range(_STREAM_SAMPLES)]
        texts = [
            spec.text.choose(caption, found.of(key, hash_caption(caption), row), spec.seed, epoch, key).text
            for key, caption, row in samples
        ]
        for (key, _, _), tokens in zip(samples, tokenizer(texts).tolist(), strict=True):
            shown[epoch, key] = tuple(tokens)
    return shown
