"""The tasks around the engines: one reads a shard's captions, one commits its rewrites.

Guarantees: a shard that cannot be read is a failure of its units alone. Draws that are in storage already are kept as
they are, whoever wrote them: readers may have seen them.
"""

import json
import logging
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import pyarrow as pa

from laclip_ray import storage
from laclip_ray.config import Experiment
from laclip_ray.data.records import Shard
from laclip_ray.data.shards import read_samples
from laclip_ray.rewriting import store
from laclip_ray.rewriting.attempts import attempts_url, read_attempts, remove_pieces
from laclip_ray.rewriting.draws import build_samples, describe_samples, join_draws, judge_draws, merge_draws
from laclip_ray.rewriting.gate import build_gate
from laclip_ray.rewriting.picture_gate import PictureGate, read_images, refine
from laclip_ray.rewriting.prompts import PromptSet
from laclip_ray.rewriting.statistics import Statistics
from laclip_ray.rewriting.store import RewriteSet
from laclip_ray.rewriting.tables import REPORT_SCHEMA, Origin, WorkUnit, origin_of, stream_row, table_of

logger = logging.getLogger(__name__)


def shard_row(shard: Shard, units: list[WorkUnit]) -> dict[str, str]:
    """What the pipeline begins with: a row a shard, with all that is to be done for it."""
    return {"shard": json.dumps(asdict(shard)), "units": json.dumps([unit.to_json() for unit in units])}


def _source_of(item: Mapping[str, str]) -> tuple[Shard, list[WorkUnit]]:
    described = json.loads(item["shard"])
    columns = described["columns"]
    shard = Shard(**{**described, "columns": tuple(columns) if columns is not None else None})
    return shard, [WorkUnit.from_json(each) for each in json.loads(item["units"])]


class ShardQueue(Protocol):
    """Says which shard is next, where that is known only when it is begun; travels to tasks by pickle."""

    def offer(self, items: Mapping[str, Mapping[str, str]]) -> None:
        """What there is, by shard."""

    def take(self, ticket: int) -> Mapping[str, str]:
        """What is next, when there is room for it; the same for a ticket that is shown again."""

    def give_back(self, shard: str, item: Mapping[str, str]) -> None:
        """A shard that was taken is to be taken once more, with what is left of it."""


def name_draws(batch: pa.Table) -> Iterator[pa.Table]:
    """Task: units whose draws are to be judged; they are read where they are committed."""
    (item,) = batch.to_pylist()
    for unit in _source_of(item)[1]:
        yield stream_row(unit)


@dataclass(frozen=True)
class ReadShard:
    """Task: one shard in, one stream row a unit out, with a row a sample."""

    experiment: Experiment
    sets: dict[str, RewriteSet]
    prompt_sets: dict[str, PromptSet]
    order: ShardQueue | None = None
    """What comes in is a ticket, and this says of which shard; it waits until there is room for one more."""

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        (item,) = batch.to_pylist()
        shard, units = _source_of(item if self.order is None else self.order.take(item["id"]))
        try:
            samples = list(read_samples(shard, self.experiment.data, with_images=False))
            described = describe_samples(samples, self.experiment)
            inputs = store.digest_inputs(described["id"], described["caption_hash"])
        except Exception as error:  # noqa: BLE001 - file systems raise what they like, and this is one shard of many
            for unit in units:
                yield stream_row(unit, failure=f"cannot be read: {error}")
            return
        for unit in units:
            try:
                yield self._describe(unit, shard, described, inputs)
            except Exception as error:  # noqa: BLE001 - as above
                yield stream_row(unit, failure=f"its earlier draws cannot be read: {error}")

    def _describe(self, unit: WorkUnit, shard: Shard, described: Mapping[str, list[Any]], inputs: str) -> pa.Table:
        previous = None
        rewrites_per_set = self.experiment.rewrite.rewrites_per_set
        if unit.previous is not None:
            previous = self._judged(unit, unit.previous)
            before = self.sets[unit.prompt_set].origin(unit.shard, unit.previous)
            rewrites_per_set = max(rewrites_per_set, before.rewrites_per_set)
        origin = Origin(shard.file_identity, inputs, rewrites_per_set)
        return stream_row(unit, origin, build_samples(described, unit, self.experiment, rewrites_per_set, previous))

    def _judged(self, unit: WorkUnit, revision: int) -> pa.Table:
        """Draws with their reasons, judged here if nobody has judged them by this gate."""
        rewrite_set = self.sets[unit.prompt_set]
        try:
            return rewrite_set.read(unit.shard, revision)
        except FileNotFoundError:
            pass  # drawn, and the run ended before it was judged
        draws = storage.read_parquet(rewrite_set.draws_url(unit.shard, revision))
        gate = build_gate(
            self.experiment.rewrite, self.prompt_sets[unit.prompt_set], self.experiment.seed, self.experiment.model.name
        )
        return draws.append_column("reason", judge_draws(draws, gate))


@dataclass
class CommitShard:
    """Task: commit the draws of one stream row; judge them first where nobody has."""

    experiment: Experiment
    sets: dict[str, RewriteSet]
    prompt_sets: dict[str, PromptSet]
    gpus_per_engine: float

    def __call__(self, batch: pa.Table) -> pa.Table:
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
            "gpu_s": row["engine_s"] * self.gpus_per_engine,
        }
        if not (row["failure"] or row["engine_start_failure"]):
            try:
                statistics = self._commit(unit, row)
                report |= {"captions": statistics.captions, "accepted": statistics.accepted}
            except Exception as error:
                logger.exception("%s/%s", unit.prompt_set, unit.shard)
                report["failure"] = f"cannot be committed: {error}"
        return pa.Table.from_pylist([report], schema=REPORT_SCHEMA)

    def _commit(self, unit: WorkUnit, row: Mapping[str, Any]) -> Statistics:
        rewrite_set = self.sets[unit.prompt_set]
        reasons: pa.Array | None = None
        draws = _draws_of(rewrite_set, unit)
        if draws is not None:
            # Judged by another gate, or an earlier attempt at this commit: what readers may have seen stays.
            origin = rewrite_set.origin(unit.shard, unit.revision)
        else:
            origin = self._origin(unit, row)
            samples, made = table_of(row["samples"]), table_of(row["made"])
            draws = join_draws(samples, made)
            reasons = made.column("reason").combine_chunks()
            if unit.previous is not None:
                before = storage.read_parquet(rewrite_set.draws_url(unit.shard, unit.previous))
                draws, reasons = merge_draws(samples, before, draws), None
            store.write_draws(rewrite_set, unit.shard, unit.revision, draws, origin)
        if reasons is None:
            reasons = judge_draws(
                draws,
                build_gate(
                    self.experiment.rewrite,
                    self.prompt_sets[unit.prompt_set],
                    self.experiment.seed,
                    self.experiment.model.name,
                ),
            )
        reasons = self._look(unit, draws, reasons)
        statistics = store.commit_verdicts(rewrite_set, unit.shard, unit.revision, draws, reasons, origin)
        if rewrite_set.origin(unit.shard, unit.revision).draws_id != origin.draws_id:
            return self._commit(unit, row)  # another run has written its own draws in between: judge those
        if row["engine"]:
            _remove_attempts(rewrite_set.location, unit.shard)
        return statistics

    def _look(self, unit: WorkUnit, draws: pa.Table, reasons: pa.Array) -> pa.Array:
        """What a gate that sees the pictures makes of the reasons; here none does."""
        return reasons

    def _origin(self, unit: WorkUnit, row: Mapping[str, Any]) -> Origin:
        origin = origin_of(row)
        engine_s, gpu_s = row["engine_s"], row["engine_s"] * self.gpus_per_engine
        if unit.previous is not None:
            before = self.sets[unit.prompt_set].origin(unit.shard, unit.previous)
            engine_s, gpu_s = engine_s + before.engine_s, gpu_s + before.gpu_s
        return replace(origin, engine_s=engine_s, gpu_s=gpu_s, draws_id=uuid.uuid4().hex)


class CommitShardByPicture(CommitShard):
    """Ray Data actor that commits as `CommitShard` does, and holds the model of the gate that sees the pictures."""

    def __init__(
        self,
        experiment: Experiment,
        sets: dict[str, RewriteSet],
        prompt_sets: dict[str, PromptSet],
        gpus_per_engine: float,
        shards: dict[str, Shard],
    ) -> None:
        super().__init__(experiment, sets, prompt_sets, gpus_per_engine)
        config = experiment.rewrite.gate.picture
        assert config is not None, "asked for by the configuration"
        self._shards = shards
        self._gate = PictureGate(
            config.model, config.pretrained, config.margin, config.batch_size, setting="rewrite.gate.picture"
        )

    def _look(self, unit: WorkUnit, draws: pa.Table, reasons: pa.Array) -> pa.Array:
        images = read_images(self._shards[unit.shard], self.experiment.data)
        refined, without_picture = refine(draws, reasons, images, self._gate)
        if without_picture:
            logger.warning(
                "%s/%s: %d samples have no readable picture to compare with; their rewrites are kept",
                unit.prompt_set, unit.shard, without_picture,
            )  # fmt: skip
        return refined


def _draws_of(rewrite_set: RewriteSet, unit: WorkUnit) -> pa.Table | None:
    try:
        return storage.read_parquet(rewrite_set.draws_url(unit.shard, unit.revision))
    except FileNotFoundError:
        return None


def _remove_attempts(location: str, shard_name: str) -> None:
    """Remove what was kept of a suspect shard while it was not committed."""
    url = attempts_url(location, shard_name)
    remove_pieces(location, shard_name, read_attempts(url))
    storage.remove(url)
