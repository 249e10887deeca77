"""Counts of captions and rewrites by outcome: of one shard, of a rewrite set, of a run.

Guarantees: each caption counts once in `captions`. Each (caption, slot) with a row counts once, in `accepted` or in
`unfilled`; after rewriting there are captions x rewrites per set of them. `rejected` counts rows: every draw that the
gate refused, including draws that a later attempt replaced, and every slot without a draw.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from laclip_ray.rewriting.tables import TOKENS
from laclip_ray.tally import NAMES_KEPT, Tally

_SUMS = ("captions", "accepted", "captions_without_rewrite", "reused", *TOKENS, "engine_s", "gpu_s")
_COUNTERS = ("unfilled", "rejected", "problems", "scored")


@dataclass
class Statistics:
    """Counts over the captions of one or more shards of a rewrite set."""

    captions: int = 0
    accepted: int = 0
    """Rewrites that training reads: at most one per slot."""
    captions_without_rewrite: int = 0
    """Captions with no accepted rewrite: training shows the original."""
    reused: int = 0
    """Captions whose rewrites were made for an equal caption."""
    unfilled: Counter[str] = field(default_factory=Counter)
    """Slots without an accepted rewrite, by the last reason."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Draws that the gate refused and slots without a draw, by reason."""
    problems: Counter[str] = field(default_factory=Counter)
    """Captions, by the problems of their samples."""
    scored: Counter[str] = field(default_factory=Counter)
    """Accepted draws that have a score, by the score's name."""
    named: dict[str, list[str]] = field(default_factory=dict)
    """The ids of the first `NAMES_KEPT` captions for each problem and each reason."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    engine_s: float = 0.0
    """Seconds of engines' lives that these rewrites took, including start-up."""
    gpu_s: float = 0.0
    """`engine_s` times the GPUs of an engine."""

    def add(self, other: "Statistics") -> None:
        """Add the counts of other shards."""
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in _COUNTERS:
            getattr(self, name).update(getattr(other, name))
        for reason, ids in other.named.items():
            self._name(reason, ids)

    def _name(self, reason: str, ids: Iterable[str]) -> None:
        Tally(names=self.named).add_names(reason, ids)

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        # Not `asdict`: it rebuilds a Counter by counting its items.
        return {**vars(self), **{name: dict(getattr(self, name)) for name in _COUNTERS}}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Statistics":
        """The inverse of `to_json`."""
        # Files of earlier versions have no scores.
        return cls(**{**content, **{name: Counter(content.get(name, {})) for name in _COUNTERS}})

    @classmethod
    def of(cls, draws: pa.Table, reasons: pa.Array) -> "Statistics":
        """Count the draws of one shard.

        Args:
            draws: rows of `DRAWS_SCHEMA`, in the order of sample, slot, attempt.
            reasons: why the gate refused each draw; null: accepted.
        """
        counts = cls()
        for name in TOKENS:
            setattr(counts, name, pc.sum(draws.column(name)).as_py() or 0)
        counts._count_slots(draws, reasons)
        counts._count_problems(draws)
        return counts

    def _count_slots(self, draws: pa.Table, reasons: pa.Array) -> None:
        ids = draws.column("id").combine_chunks()
        encoded = ids.dictionary_encode()
        sample = encoded.indices.to_numpy()
        slot = sample.astype(np.int64) << 16 | draws.column("draw").to_numpy()
        refused = reasons.is_valid().to_numpy(zero_copy_only=False)
        accepted_slots = np.unique(slot[~refused])
        self.captions = len(encoded.dictionary)
        self.accepted = len(accepted_slots)
        self.captions_without_rewrite = self.captions - len(np.unique(accepted_slots >> 16))
        last_of_slot = np.append(slot[1:] != slot[:-1], True)
        open_slots = last_of_slot & refused & ~np.isin(slot, accepted_slots)
        self.unfilled = _count(reasons.filter(pa.array(open_slots)))
        self.rejected = _count(reasons.drop_null())
        for reason in self.rejected:
            ids_of_reason = ids.filter(pc.fill_null(pc.equal(reasons, reason), False))
            self._name(reason, pc.unique(ids_of_reason)[:NAMES_KEPT].to_pylist())
        tokens = draws.column("output_tokens").to_numpy()
        has_text = draws.column("text").is_valid().to_numpy()
        is_generated = np.bincount(sample, weights=tokens, minlength=self.captions) > 0
        is_drawn = np.bincount(sample, weights=has_text, minlength=self.captions) > 0
        self.reused = int((is_drawn & ~is_generated).sum())

    def _count_problems(self, draws: pa.Table) -> None:
        ids = draws.column("id").combine_chunks()
        sample = ids.dictionary_encode().indices.to_numpy()
        is_first_row = np.append(True, sample[1:] != sample[:-1])
        has_problems = pa.array(is_first_row & pc.not_equal(draws.column("problems"), "").to_numpy())
        problems_by_id = zip(ids.filter(has_problems), draws.column("problems").filter(has_problems), strict=True)
        for sample_id, problems in problems_by_id:
            for problem in problems.as_py().split(","):
                self.problems[problem] += 1
                self._name(problem, [sample_id.as_py()])


def _count(reasons: pa.Array) -> Counter[str]:
    return Counter({item["values"]: item["counts"] for item in reasons.value_counts().to_pylist()})
