"""The progress of a rewriting run: the commits, the failures, and the units that engines gave back."""

import json
import logging
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from laclip_ray.progress import tell
from laclip_ray.progress.messages import Rewriting
from laclip_ray.rewriting.engines.engine import EngineStartError
from laclip_ray.rewriting.engines.work import CacheWatch, EngineWork
from laclip_ray.rewriting.prices import budget_reached, spending, spending_in_words
from laclip_ray.rewriting.running.backlog import Backlog
from laclip_ray.rewriting.running.hooks import RunHooks
from laclip_ray.rewriting.running.result import (
    BudgetReachedError,
    RewritingResult,
    StoppedError,
    register_committed,
)
from laclip_ray.rewriting.running.shortfall import ShortfallError, failed_share_error
from laclip_ray.rewriting.running.stages import shard_row
from laclip_ray.rewriting.storing.progress_file import ProgressFile, RewritingProgress
from laclip_ray.rewriting.storing.statistics import Statistics
from laclip_ray.rewriting.tables import WorkUnit

logger = logging.getLogger(__name__)

_REGISTER_PERIOD, _REGISTER_GROWTH = 10_000, 0.1
"""Commits between two updates of the registers: this many, and at least this share of all that are committed. An update
reads and writes all, so a fixed number would take a time that grows with the square. A run that is killed leaves at
most so many footers to read."""


@dataclass
class Progress:
    """The commits and spending of a run over all its rounds, and the units left in the current round."""

    backlog: Backlog
    result: RewritingResult
    hooks: RunHooks
    gpu_s: float
    """Includes earlier runs into this output."""
    counted: dict[str, Statistics] = field(init=False)
    """By prompt set: captions and slots of the shards committed by this run, and before it if no work is left there."""
    counted_shards: set[str] = field(init=False)
    units: int = 0
    """Units to commit in this run."""
    engines: set[str] = field(default_factory=set)
    """Engines heard of."""
    left: dict[tuple[str, str], WorkUnit] = field(default_factory=dict)
    """By (prompt set, shard): units of this round to draw."""
    drawn: int = 0
    """Units drawn and committed in this round."""
    returned: int = 0
    """Units given back since the last commit of a drawn unit, in this round."""
    cache: CacheWatch | None = None
    """Watches the use of the prefix cache. None: the heads' tokens are not known here."""
    start_failure: EngineStartError | None = None
    """The last engine in this round that did not start."""
    file: ProgressFile = field(init=False)
    """Read by `laclip status`."""
    register_due: int = field(init=False)
    """The number of commits after which the registers are updated."""

    def __post_init__(self) -> None:
        """Count what earlier runs committed: a rerun must not spend money before it notices that rewrites fail."""
        self.counted = {name: Statistics() for name in self.backlog.sets}
        self.file = ProgressFile(self.backlog.experiment.rewrite_output)
        self.register_due = self._next_register()
        left = {(unit.prompt_set, unit.shard) for unit in self.backlog.units}
        self.counted_shards = set()
        for name, committed in self.backlog.committed.items():
            for shard, content in committed.items():
                if (name, shard) not in left:
                    counts = content.statistics
                    self._count(name, shard, counts.captions, counts.accepted, counts.unfilled)

    def _next_register(self) -> int:
        committed = self.result.commits + sum(map(len, self.backlog.committed.values()))
        return self.result.commits + max(_REGISTER_PERIOD, int(_REGISTER_GROWTH * committed))

    def _count(self, prompt_set: str, shard: str, captions: int, accepted: int, unfilled: Mapping[str, int]) -> None:
        self.counted[prompt_set].add(Statistics(captions, accepted, unfilled=Counter(unfilled)))
        self.counted_shards.add(shard)

    def follow(self, reports: Any, to_draw: Sequence[WorkUnit]) -> list[WorkUnit]:
        """Run one round of the pipeline, and record each unit's report.

        Args:
            reports: the stream of `REPORT_SCHEMA` rows.
            to_draw: the units to draw in this round.

        Returns:
            The units that engines gave back and no other engine has drawn.

        Raises:
            BudgetReachedError: the budget is spent, and units are left to draw.
            ShortfallError: too many rewrites fail, and units are left to draw.
            EngineStartError: an engine did not start, and no other engine is known to work.
            StoppedError: `should_stop` said so.
        """
        self._begin_round(to_draw)
        # An early end ends the engines and running commits, and waits until they are gone, so none commits after
        # the count. A commit may be cut between its draws and its verdicts; the next run judges such draws.
        with closing(_iter_rows(reports)) as rows:
            for report in rows:
                if self.hooks.should_stop():
                    raise StoppedError("it was told to stop")
                self.gpu_s += report["gpu_s"]
                if report["engine_start_failure"]:
                    self._record_return(report)
                elif report["failure"]:
                    self._record_failure(report)
                else:
                    self._record_commit(report)
                    self._show(f"{report['prompt_set']}/{report['shard']}")
                    if self.drawn < len(to_draw) and (limit := self.reached_limit()):
                        raise limit
                self._write()
        if self.start_failure is None:
            return []  # no unit was given back
        if self.left and not self.drawn:
            raise self.start_failure
        return list(self.left.values())

    def _begin_round(self, to_draw: Sequence[WorkUnit]) -> None:
        self.left = {(unit.prompt_set, unit.shard): unit for unit in to_draw}
        self.drawn = self.returned = 0
        self.start_failure = None
        self._write()
        self._show()

    def _write(self) -> None:
        """Write how far the run is, now and then."""
        if self.file.is_due:
            shards = len(self.backlog.shards)
            self.file.write(RewritingProgress.of(shards, self.counted, self.result.failures))

    def _show(self, unit: str | None = None) -> None:
        """Show how far the run is.

        Args:
            unit: was committed or given up just now.
        """
        rewrite, sets = self.backlog.experiment.rewrite, len(self.backlog.sets)
        units = len(self.backlog.shards) * sets
        done_before = units - self.units
        tell(
            Rewriting(
                units=units,
                units_done=done_before + self.result.commits + len(self.result.failures),
                captions_done=sum(counts.captions for counts in self.counted.values()),
                sets=sets,
                unit=unit,
                spent=spending_in_words(spending(self.gpu_s / 3600, rewrite), rewrite.budget),
                failed=len(self.result.failures),
            )
        )

    def reached_limit(self) -> BudgetReachedError | ShortfallError | None:
        """The error that forbids new draws: the budget is spent, or too many rewrites fail. None: draw on."""
        rewrite = self.backlog.experiment.rewrite
        if message := budget_reached(spending(self.gpu_s / 3600, rewrite), rewrite.budget):
            return BudgetReachedError(message)
        return failed_share_error(
            self.counted, rewrite.max_failed_share, len(self.backlog.shards), len(self.counted_shards)
        )

    def _record_return(self, report: Mapping[str, Any]) -> None:
        """An engine did not start and gave a unit back. Raise if no other engine is known to work."""
        self.start_failure = EngineStartError(report["engine_start_failure"])
        self.engines.add(report["engine"])
        # The limit is twice what all engines but one can hold. The factor covers engines that died unheard of.
        held_shards = self.backlog.experiment.rewrite.engine.held_shards
        if self.returned >= 2 * held_shards * (len(self.engines) - 1):
            raise self.start_failure
        self.returned += 1
        name = f"{report['prompt_set']}/{report['shard']}"
        logger.error("%s: engine did not restart (%s); shard returned to the other engines", name, self.start_failure)
        if self.hooks.queue is not None:
            unit = self.left[report["prompt_set"], report["shard"]]
            self.hooks.queue.give_back(unit.shard, shard_row(self.backlog.shards[unit.shard], [unit]))

    def _record_failure(self, report: Mapping[str, Any]) -> None:
        self.left.pop((report["prompt_set"], report["shard"]), None)
        name = f"{report['prompt_set']}/{report['shard']}"
        self.result.failures[name] = report["failure"]
        self._show(name)
        logger.error("%s: %s", name, report["failure"])
        self.hooks.on_settled(report["shard"], None)

    def _record_commit(self, report: Mapping[str, Any]) -> None:
        self.left.pop((report["prompt_set"], report["shard"]), None)
        self.result.commits += 1
        if self.result.commits >= self.register_due:
            for rewrite_set in self.backlog.sets.values():
                register_committed(rewrite_set, self.backlog.shards)
            self.register_due = self._next_register()
        unfilled = json.loads(report["unfilled"])
        self._count(report["prompt_set"], report["shard"], report["captions"], report["accepted"], unfilled)
        self.hooks.on_settled(report["shard"], report["accepted"])
        if report["engine"]:
            self.drawn += 1
            self.returned = 0
            self.engines.add(report["engine"])
            self.result.engines.add(report["engine"])
            self._count_work(report)
        logger.debug(
            "committed %d of %d: %s/%s, %d captions, %d accepted rewrites",
            self.result.commits, self.units, report["prompt_set"], report["shard"], report["captions"],
            report["accepted"],
        )  # fmt: skip

    def _count_work(self, report: Mapping[str, Any]) -> None:
        if report["engine_work"] is None:
            return
        work = EngineWork.from_json(report["engine_work"])
        self.result.speed.add(work)
        if self.cache is not None:
            self.cache.add(report["prompt_set"], report["engine"], work)
            if warning := self.cache.warning():
                logger.warning("%s: %s", self.backlog.experiment.rewrite.model, warning)


def _iter_rows(dataset: Any) -> Generator[dict[str, Any], None, None]:
    """Yield each row at once: `Dataset.iter_rows` gives a block only when the next one is ready."""
    with closing(iter(dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0))) as blocks:
        for block in blocks:
            yield from block.to_pylist()
