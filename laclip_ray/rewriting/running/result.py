"""The result of a rewriting run: counts over all committed shards, their cost, and the missing shards."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from laclip_ray import storage
from laclip_ray.endings.causes import describe
from laclip_ray.endings.surroundings import continuation
from laclip_ray.errors import IncompleteError
from laclip_ray.rewriting import tables
from laclip_ray.rewriting.engines.engine import EngineStartError
from laclip_ray.rewriting.engines.work import EngineSpeed
from laclip_ray.rewriting.prices import cost_per_thousand, spending
from laclip_ray.rewriting.running.backlog import Backlog
from laclip_ray.rewriting.running.shortfall import ShortfallError
from laclip_ray.rewriting.sample_table import SHARDS_READ
from laclip_ray.rewriting.shown_draws import choose_shards
from laclip_ray.rewriting.storing import store
from laclip_ray.rewriting.storing.committed import CommittedTable
from laclip_ray.rewriting.storing.statistics import Statistics
from laclip_ray.rewriting.storing.store import RewriteSet

_MISSING_SHOWN = 20
"""Missing units named in the error; the summary file names all."""


class BudgetReachedError(Exception):
    """Rewriting has spent its budget; the message names the limit."""


class StoppedError(Exception):
    """Rewriting ended early on request."""


@dataclass
class RewritingResult:
    """How a rewriting run ended."""

    statistics: dict[str, Statistics] = field(default_factory=dict)
    """By prompt set, over all committed shards."""
    shards: int = 0
    shards_done_before: int = 0
    """Shards committed for every prompt set before the run."""
    commits: int = 0
    """Units (shard x prompt set) that this run committed."""
    engines: set[str] = field(default_factory=set)
    """The engines that wrote this run's rewrites."""
    failures: dict[str, str] = field(default_factory=dict)
    """The reason for each given-up unit, by `prompt set/shard`."""
    missing: dict[str, str] = field(default_factory=dict)
    """The reason for each uncommitted unit, by `prompt set/shard`."""
    elapsed_s: float = 0.0
    speed: EngineSpeed = field(default_factory=EngineSpeed)
    """Of this run's engines."""
    bare_tokens_per_s: float | None = None
    """Output tokens a second of the bare engine, by a probe of these recipes on this hardware. None: not measured."""
    costs: dict[str, Any] = field(default_factory=dict)
    """GPU-hours, money, and the price of a thousand accepted rewrites, over all committed shards."""
    incomplete: IncompleteError | None = None
    """Names the missing units, caused by the error that stopped the run; or names the captions that killed engines."""
    sampled: dict[str, dict[str, int]] = field(default_factory=dict)
    """By prompt set, a few committed shards and their revisions: trackers show draws of these."""

    @property
    def total(self) -> Statistics:
        """The statistics of all prompt sets together."""
        total = Statistics()
        for statistics in self.statistics.values():
            total.add(statistics)
        return total

    def to_json(self) -> dict[str, Any]:
        """The content of `summary.json`."""
        return {
            "complete": not self.missing,
            "shards": self.shards,
            "shards_done_before": self.shards_done_before,
            "commits": self.commits,
            "engines": len(self.engines),
            "elapsed_s": round(self.elapsed_s, 3),
            "engine_tokens_per_s": self.speed.tokens_per_s,
            "bare_engine_tokens_per_s": self.bare_tokens_per_s,
            **self.costs,
            "missing": self.missing,
            "prompt_sets": {name: statistics.to_json() for name, statistics in self.statistics.items()},
        }


def count_committed(backlog: Backlog, result: RewritingResult) -> None:
    """Fill in the statistics, the costs and the missing units, over this run and earlier ones.

    Writes each rewrite set's `summary.json`.
    """
    for name, rewrite_set in backlog.sets.items():
        committed = register_committed(rewrite_set, backlog.shards)
        total = Statistics()
        for content in committed.values():
            total.add(content.statistics)
        result.statistics[name] = total
        chosen = choose_shards(committed, SHARDS_READ, backlog.experiment.seed)
        result.sampled[name] = {shard: committed[shard].revision for shard in chosen}
        storage.write_json(storage.join(rewrite_set.location, "summary.json"), total.to_json())
        for unit in backlog.units:
            is_missing = unit.shard not in committed or committed[unit.shard].revision < unit.revision
            if unit.prompt_set == name and is_missing:
                key = f"{name}/{unit.shard}"
                result.missing[key] = result.failures.get(key, "not done")
    result.costs = _costs(backlog, result.total)


def register_committed(rewrite_set: RewriteSet, shard_names: Collection[str]) -> CommittedTable:
    """The metadata of the committed shards of a dataset, which goes to the set's register, too."""
    listed = rewrite_set.listed()
    committed = rewrite_set.committed(listed, store.of_shards(listed.committed, shard_names))
    rewrite_set.save_register(committed, listed)
    return committed


def _costs(backlog: Backlog, total: Statistics) -> dict[str, Any]:
    spent = spending(total.gpu_s / 3600, backlog.experiment.rewrite)
    return {
        "engine_hours": round(total.engine_s / 3600, 6),
        "gpu_hours": round(spent.gpu_hours, 6),
        "money": spent.money,
        "currency": spent.currency,
        "cost_per_thousand_accepted": cost_per_thousand(spent, total.accepted),
        "prompt_tokens": total.prompt_tokens,
        "output_tokens": total.output_tokens,
        "cached_share": total.cached_tokens / total.prompt_tokens if total.prompt_tokens else 0.0,
    }


def find_incomplete(result: RewritingResult, error: Exception | None, summary_url: str) -> IncompleteError | None:
    """The error that names missing units or captions that killed their engines; None if the run is complete.

    Args:
        result: after `count_committed`.
        error: the error that stopped the run, if any.
        summary_url: the file that names all missing units.
    """
    if result.missing:
        incomplete = IncompleteError(_describe_missing(result, error, summary_url))
        incomplete.__cause__ = error
        return incomplete
    total = result.total
    if died := total.unfilled[tables.ENGINE_DIED]:
        names = ", ".join(total.named.get(tables.ENGINE_DIED, []))
        return IncompleteError(
            f"{died} rewrites are missing because their captions killed their engines: {names}. Everything else is "
            f"committed; `laclip rewrites retry CONFIG --reason {tables.ENGINE_DIED}` tries them again"
        )
    return None


def _describe_missing(result: RewritingResult, error: Exception | None, summary_url: str) -> str:
    lines = [f"  {name}: {reason}" for name, reason in list(result.missing.items())[:_MISSING_SHOWN]]
    if rest := len(result.missing) - len(lines):
        lines.append(f"  and {rest} more, in {summary_url}")
    if error is not None:
        lines.append(f"the run was stopped by: {describe(error)}")
    units = result.shards * len(result.statistics)
    return "\n".join(
        [
            f"rewriting is incomplete: {len(result.missing)} of {units} (prompt set / shard) are not committed; "
            + _continuation(error),
            *lines,
        ]
    )


def _continuation(error: Exception | None) -> str:
    """When the same command does the missing units; `error` stopped the run, if any."""
    if error is None:
        return "the same command tries them again, and ends in the same way while their reasons last"
    if isinstance(error, BudgetReachedError):
        return "the same command continues with a larger rewrite.budget"
    if isinstance(error, ShortfallError):
        return "the same command ends in the same way"
    if isinstance(error, EngineStartError):
        return "the same command continues once the engine starts"
    return "the same command continues" if isinstance(error, StoppedError) else continuation(error)
