"""The facts of a report on a run, read once from storage, from which the page is made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from laclip_ray.reporting.gallery import RewrittenSample
from laclip_ray.rewriting.storing.score_columns import ScoreRange
from laclip_ray.rewriting.storing.statistics import Statistics
from laclip_ray.run_report.vocabulary import Vocabulary
from laclip_ray.status.outputs import OutputStatus
from laclip_ray.tuning.results import Sweep

MetricsLine = Mapping[str, Any]
"""A line of `metrics.jsonl`."""


def counts_in(line: MetricsLine, key: str) -> dict[str, int]:
    """The counts by reason in a line; may be empty."""
    found = line.get(key)
    if not isinstance(found, Mapping):
        return {}
    return {str(name): count for name, count in found.items() if isinstance(count, int)}


@dataclass(frozen=True)
class SetFacts:
    """One rewrite set."""

    name: str
    location: str
    gate: str
    shards: int
    """Committed."""
    statistics: Statistics
    counted_shards: int
    """Shards that the statistics are of."""
    recipe: Mapping[str, Any]
    """The content of `recipe.json`; empty if it is damaged."""


@dataclass(frozen=True)
class RewritingFacts:
    """The rewrites of a run."""

    sets: Sequence[SetFacts]
    samples: Sequence[RewrittenSample]
    """For the gallery."""
    shards_read: int
    """Shards times sets that samples, vocabulary and scores were taken from."""
    vocabulary: Mapping[str, Vocabulary]
    """Of the captions, and by set of its accepted rewrites."""
    scores: Mapping[str, Mapping[str, Sequence[float]]]
    """By score, its values by group: accepted and refused texts."""
    ranges: Mapping[str, Mapping[str, ScoreRange]]
    """By set, the ranges of the scores of accepted rewrites."""
    summary: Mapping[str, Any]
    """The content of `summary.json`, with the cost; empty without one."""
    notes: Sequence[str] = ()
    """The unread parts, with reasons."""


@dataclass(frozen=True)
class TrainingFacts:
    """A training run."""

    lines: Sequence[MetricsLine]
    """Some of the metrics, in order."""
    lines_are_all: bool
    summary: Mapping[str, Any]
    """The content of `summary.json`; empty until the run is finished."""
    evaluations: Sequence[Mapping[str, Any]] = ()
    """Lines of `evaluations.jsonl`."""


@dataclass(frozen=True)
class RunFacts:
    """One run."""

    name: str
    """Unique on the page."""
    status: OutputStatus
    experiment: Mapping[str, Any]
    """Its config as JSON, with `***` for secrets: as training recorded it, else as given; empty if neither is there."""
    rewriting: RewritingFacts | None = None
    training: TrainingFacts | None = None
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    """The content of `results.json`; empty without one."""
    sweep: Sweep | None = None
    problems: Sequence[str] = ()
    """A sentence for each file that could not be read."""
    is_one_job: bool = False
    """Whether `laclip run` rewrote and trained."""
