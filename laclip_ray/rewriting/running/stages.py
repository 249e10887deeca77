"""The tasks of the pipeline: `ReadShard` before the engines, `CommitShard` after them.

Guarantees: an unreadable shard is a failure of its own units only, even if it kills each process that reads it. Draws
in storage are never replaced, even those of another run: readers may have seen them.
"""

import json
import logging
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from laclip_ray import storage
from laclip_ray.config import DataConfig, PictureGateConfig, RewriteConfig
from laclip_ray.data.image_formats import ImageLimits
from laclip_ray.data.reading import reading_of
from laclip_ray.data.records import Shard
from laclip_ray.data.shards import read_samples
from laclip_ray.printable import printable_line
from laclip_ray.rewriting.draws import build_samples, describe_samples, join_draws, merge_draws
from laclip_ray.rewriting.judging.gate import Gate
from laclip_ray.rewriting.row_errors import log_failure, one_line
from laclip_ray.rewriting.scoring.meaning_verdicts import MeaningGate, judge_by_meaning, read_scored_draws, verdicts_of
from laclip_ray.rewriting.scoring.picture_gate import (
    PICTURE_SCORES,
    PictureScorer,
    picture_scorer_id,
    read_images,
    refuse_unlike,
    score_draws,
)
from laclip_ray.rewriting.storing import store
from laclip_ray.rewriting.storing.attempts import (
    attempts_url,
    bounded_starts,
    killed_message,
    read_attempts,
    remove_pieces,
)
from laclip_ray.rewriting.storing.committed import digest_inputs
from laclip_ray.rewriting.storing.earlier_draws import read_earlier_draws
from laclip_ray.rewriting.storing.score_columns import Verdicts
from laclip_ray.rewriting.storing.statistics import Statistics
from laclip_ray.rewriting.storing.store import RewriteSet
from laclip_ray.rewriting.tables import (
    REPORT_SCHEMA,
    VERDICTS_SCHEMA,
    Origin,
    WorkUnit,
    is_in_pieces,
    origin_of,
    stream_row,
    table_from_bytes,
    with_columns_of,
)

logger = logging.getLogger(__name__)

MAX_STARTS = 4
"""Starts of a task whose process is killed each time, most often for lack of memory. Ray repeats it without end."""


def shard_row(shard: Shard, units: list[WorkUnit]) -> dict[str, str]:
    """The row that a shard enters the pipeline with: the shard and its units of work, as JSON."""
    return {"shard": json.dumps(asdict(shard)), "units": json.dumps([unit.to_json() for unit in units])}


def _parse_shard_row(row: Mapping[str, str]) -> tuple[Shard, list[WorkUnit]]:
    """The inverse of `shard_row`."""
    fields = json.loads(row["shard"])
    columns = fields["columns"]
    shard = Shard(**{**fields, "columns": tuple(columns) if columns is not None else None})
    return shard, [WorkUnit.from_json(unit) for unit in json.loads(row["units"])]


class ShardQueue(Protocol):
    """Decides at run time which shard a task takes next. Must be picklable: tasks get a copy."""

    def offer(self, items: Mapping[str, Mapping[str, str]]) -> None:
        """Set the shards to take: by shard name, the row from `shard_row`."""

    def take(self, ticket: int) -> Mapping[str, str]:
        """The next shard's row. Blocks until there is room for it; a repeated ticket gets the same row."""

    def give_back(self, shard: str, item: Mapping[str, str]) -> None:
        """Put a taken shard back, with the row of its remaining units."""


def emit_units(batch: pa.Table) -> Iterator[pa.Table]:
    """Task: a stream row for each unit whose draws lack only verdicts. `CommitShard` reads the draws."""
    (row,) = batch.to_pylist()
    for unit in _parse_shard_row(row)[1]:
        yield stream_row(unit)


@dataclass(frozen=True)
class ReadShard:
    """Task: read one shard's captions; gives a stream row for each unit of the shard."""

    data: DataConfig
    rewrite: RewriteConfig
    seed: int
    sets: Mapping[str, RewriteSet]
    """By prompt set."""
    gates: Mapping[str, Callable[[], Gate]]
    """By prompt set, builds its gate."""
    meaning: MeaningGate | None = None
    """Judges the meaning of earlier draws without verdicts. None: off."""
    queue: ShardQueue | None = None
    """If given, a task's input is a ticket, and the queue decides which shard it reads."""

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        """Read the shard of one input row."""
        (row,) = batch.to_pylist()
        shard, units = _parse_shard_row(row if self.queue is None else self.queue.take(row["id"]))
        if killed := _too_many_deaths():
            for unit in units:
                yield stream_row(unit, failure=f"cannot be read: {killed}")
            return
        try:
            samples = list(read_samples(shard, self.data, with_images=False))
            described = describe_samples(
                samples, self.rewrite.max_caption_characters, self.rewrite.gate.drop_wordless_captions
            )
            inputs = digest_inputs(described["id"], described["caption_hash"])
        except Exception as error:  # noqa: BLE001 - file systems raise many types, and other shards must go through
            for unit in units:
                yield stream_row(unit, failure=f"cannot be read: {one_line(error)}")
            return
        for unit in units:
            try:
                yield self._build_row(unit, shard, described, inputs)
            except Exception as error:  # noqa: BLE001 - as above
                what = "cannot be read" if unit.previous is None else "its earlier draws cannot be read"
                yield stream_row(unit, failure=f"{what}: {one_line(error)}")

    def _build_row(self, unit: WorkUnit, shard: Shard, described: Mapping[str, list[Any]], inputs: str) -> pa.Table:
        slots = self.rewrite.rewrites_per_set
        if unit.previous is not None:
            previous_origin = self.sets[unit.prompt_set].origin(unit.shard, unit.previous)
            slots = max(slots, previous_origin.rewrites_per_set)
        previous = read_earlier_draws(unit, described, partial(self._read_judged, unit.prompt_set))
        origin = Origin(shard.file_identity, inputs, slots, reading=reading_of(shard, self.data))
        samples = build_samples(described, unit, self.rewrite.heads, self.seed, slots, previous)
        return stream_row(unit, origin, samples)

    def _read_judged(self, prompt_set: str, shard: str, revision: int) -> pa.Table:
        """Draws with their reasons; judged here if they have no verdicts of this gate."""
        rewrite_set = self.sets[prompt_set]
        try:
            return rewrite_set.read(shard, revision)
        except FileNotFoundError:
            pass  # the run that drew them ended before it judged them
        draws = read_scored_draws(rewrite_set, shard, revision, self.meaning)
        verdicts = judge_by_meaning(draws, self.gates[prompt_set](), self.meaning)
        return with_columns_of(draws.append_column("reason", verdicts.reasons), VERDICTS_SCHEMA)


class _Draws(NamedTuple):
    """A unit's draws in storage."""

    draws: pa.Table
    origin: Origin
    verdicts: Verdicts | None = None
    """None: not judged yet."""


@dataclass
class CommitShard:
    """Task: commit the draws of one stream row; judge them first if they have no reasons yet."""

    sets: Mapping[str, RewriteSet]
    """By prompt set."""
    gates: Mapping[str, Callable[[], Gate]]
    """By prompt set, builds its gate."""
    gpus_per_engine: float
    meaning: MeaningGate | None = None
    """Judges the meaning of draws without reasons. None: off."""

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Commit one stream row; gives a row of `REPORT_SCHEMA`."""
        (row,) = batch.to_pylist()
        unit = WorkUnit.from_json(row["unit"])
        report = {
            "shard": unit.shard,
            "prompt_set": unit.prompt_set,
            "failure": row["failure"],
            "engine_start_failure": row["engine_start_failure"],
            "engine": row["engine"],
            "captions": 0,
            "accepted": 0,
            "unfilled": "{}",
            "gpu_s": row["engine_s"] * self.gpus_per_engine,
            "engine_work": row["engine_work"],
        }
        if killed := _too_many_deaths():
            report["failure"] = row["failure"] or f"cannot be committed: {killed}"
        elif not (row["failure"] or row["engine_start_failure"]):
            try:
                statistics = self._commit(unit, row)
                report |= {
                    "captions": statistics.captions,
                    "accepted": statistics.accepted,
                    "unfilled": json.dumps(statistics.unfilled),
                }
            except Exception as error:  # noqa: BLE001 - as in `ReadShard`
                log_failure(f"{unit.prompt_set}/{unit.shard}")
                report["failure"] = f"cannot be committed: {one_line(error)}"
        return pa.Table.from_pylist([report], schema=REPORT_SCHEMA)

    def _commit(self, unit: WorkUnit, row: Mapping[str, Any]) -> Statistics:
        rewrite_set = self.sets[unit.prompt_set]
        made = table_from_bytes(row["made"]) if row["made"] is not None else None
        new = self._write_new(unit, row, made) if made is not None else None
        if new is None:
            # Judged by another gate, or written by another run or an earlier attempt: readers may have seen them.
            draws = read_scored_draws(rewrite_set, unit.shard, unit.revision, self.meaning)
            new = _Draws(draws, rewrite_set.origin(unit.shard, unit.revision))
        draws, origin, verdicts = new
        if verdicts is None:
            verdicts = judge_by_meaning(draws, self.gates[unit.prompt_set](), self.meaning)
        verdicts = self._refine(unit, draws, verdicts)
        statistics = store.commit_verdicts(
            *(rewrite_set, unit.shard, unit.revision, draws, verdicts.reasons, origin),
            scores=verdicts.scores,
            scorers=verdicts.scorers,
        )
        if made is not None and is_in_pieces(made):
            _remove_attempts(rewrite_set.location, unit.shard)
        return statistics

    def _write_new(self, unit: WorkUnit, row: Mapping[str, Any], made: pa.Table) -> _Draws | None:
        """Write the draws of a row; None if the unit has draws already."""
        rewrite_set, origin = self.sets[unit.prompt_set], self._final_origin(unit, row)
        samples = table_from_bytes(row["samples"])
        draws = join_draws(samples, made)
        verdicts = None
        before = read_earlier_draws(
            unit, samples.to_pydict(), partial(read_scored_draws, rewrite_set, meaning=self.meaning)
        )
        if before is None:
            verdicts = verdicts_of(made, self.meaning)
        else:
            draws = merge_draws(samples, before, draws)
        is_written = store.create_draws(rewrite_set, unit.shard, unit.revision, draws, origin)
        # A store refuses these draws too if it has them, and its first answer was lost.
        if is_written or rewrite_set.origin(unit.shard, unit.revision).draws_id == origin.draws_id:
            return _Draws(draws, origin, verdicts)
        return None

    def _refine(self, unit: WorkUnit, draws: pa.Table, verdicts: Verdicts) -> Verdicts:
        """The verdicts after gates that need a model. This class has no model, so they stay."""
        return verdicts

    def _final_origin(self, unit: WorkUnit, row: Mapping[str, Any]) -> Origin:
        """The row's origin with the engine's time, summed over this and the previous revision."""
        origin = origin_of(row)
        engine_s, gpu_s = row["engine_s"], row["engine_s"] * self.gpus_per_engine
        if unit.previous is not None:
            before = self.sets[unit.prompt_set].origin(unit.shard, unit.previous)
            engine_s, gpu_s = engine_s + before.engine_s, gpu_s + before.gpu_s
        return replace(origin, engine_s=engine_s, gpu_s=gpu_s, draws_id=uuid.uuid4().hex)


class CommitShardByPicture(CommitShard):
    """Ray Data actor: commits as `CommitShard` does, and holds the model of the picture gate."""

    def __init__(
        self,
        sets: Mapping[str, RewriteSet],
        gates: Mapping[str, Callable[[], Gate]],
        gpus_per_engine: float,
        meaning: MeaningGate | None,
        picture: PictureGateConfig,
        data: DataConfig,
        shards: Mapping[str, Shard],
    ) -> None:
        """Load no model yet: a shard whose scores are stored needs none.

        Args:
            sets: by prompt set.
            gates: by prompt set, builds its gate.
            gpus_per_engine: GPUs of one engine.
            meaning: judges the meaning of draws without reasons. None: off.
            picture: the model and its margin.
            data: says where a shard's pictures are.
            shards: by name.
        """
        super().__init__(sets, gates, gpus_per_engine, meaning)
        self._data = data
        self._shards = shards
        self._picture = picture
        self._scorer_id = picture_scorer_id(picture, data)

    @cached_property
    def _picture_scorer(self) -> PictureScorer:
        picture, data = self._picture, self._data
        return PictureScorer(
            picture.model, picture.pretrained, picture.batch_size, setting="rewrite.gate.picture",
            limits=ImageLimits.of(data), exif=data.exif,
        )  # fmt: skip

    def _refine(self, unit: WorkUnit, draws: pa.Table, verdicts: Verdicts) -> Verdicts:
        rewrite_set = self.sets[unit.prompt_set]
        scorers = dict.fromkeys(PICTURE_SCORES, self._scorer_id)
        stored = rewrite_set.stored_scores(unit.shard, unit.revision, scorers)
        with bounded_starts(rewrite_set.location, unit.shard, MAX_STARTS):
            scores, without_picture = score_draws(
                draws,
                verdicts.reasons,
                lambda: read_images(self._shards[unit.shard], self._data),
                lambda: self._picture_scorer,
                stored,
            )
        if without_picture:
            logger.warning(
                "%s: %d samples have no readable picture to compare with; their rewrites are kept",
                printable_line(f"{unit.prompt_set}/{unit.shard}"), without_picture,
            )  # fmt: skip
        return verdicts.refined(refuse_unlike(verdicts.reasons, scores, self._picture.margin), scores, scorers)


def _too_many_deaths() -> str | None:
    """A message if the process of this task was killed so often that the task must not try again; else None.

    Actors run the code of a stage in a thread that does not know its task; there it is always None.
    """
    from ray._private.worker import global_worker  # the runtime context does not know the number of the attempt

    worker: Any = global_worker
    if not worker.connected:
        return None
    deaths = worker.core_worker.get_current_task_attempt_number()
    if deaths < MAX_STARTS:
        return None
    return killed_message(deaths)


def _remove_attempts(location: str, shard_name: str) -> None:
    """Remove a committed shard's attempt log and its kept pieces."""
    url = attempts_url(location, shard_name)
    remove_pieces(location, shard_name, read_attempts(url))
    storage.remove(url)
