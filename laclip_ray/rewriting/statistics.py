"""Counts of what became of captions: of one shard, of a rewrite set, of a run.

Guarantees: every caption is counted once in `captions`, and every rewrite asked for once in `accepted` or `unfilled`:
they add up to the pairs of a caption and a draw number that have a row, which for what rewriting makes are the captions
times the rewrites per set. `rejected` counts every row with a reason: draws that the gate refused, those that another
attempt replaced too, and rewrites asked for that there was no draw for.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_NAMES_KEPT = 20
_TOKENS = ("prompt_tokens", "cached_tokens", "output_tokens")
_SUMS = ("captions", "accepted", "captions_without_rewrite", "reused", *_TOKENS, "engine_s", "gpu_s")
_COUNTERS = ("unfilled", "rejected", "problems")


@dataclass
class Statistics:
    """What happened to the captions of one or more shards of a rewrite set."""

    captions: int = 0
    accepted: int = 0
    """Rewrites that the gate accepted and training reads: at most one for each rewrite asked for."""
    captions_without_rewrite: int = 0
    """Captions with no accepted rewrite: training shows the original."""
    reused: int = 0
    """Captions whose rewrites were made for an equal caption."""
    unfilled: Counter[str] = field(default_factory=Counter)
    """Rewrites asked for that there is none of, by the last reason."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Draws that the gate refused, and rewrites asked for that there was no draw for, by the reason."""
    problems: Counter[str] = field(default_factory=Counter)
    """Captions by what was wrong with them."""
    named: dict[str, list[str]] = field(default_factory=dict)
    """For each problem and each reason the ids of the first few."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    engine_s: float = 0.0
    """Seconds of engines' lives that these rewrites took, their start-up included."""
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

    def _name(self, reason: str, ids: Sequence[str]) -> None:
        names = self.named.setdefault(reason, [])
        names.extend([each for each in ids if each not in names][: _NAMES_KEPT - len(names)])

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        # Not `asdict`: it counts a Counter's items anew.
        return {**vars(self), **{name: dict(getattr(self, name)) for name in _COUNTERS}}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Statistics":
        """The inverse of `to_json`."""
        return cls(**{**content, **{name: Counter(content[name]) for name in _COUNTERS}})

    @classmethod
    def of(cls, draws: pa.Table, reasons: pa.Array) -> "Statistics":
        """Count one shard's draws (rows in order of sample, draw, attempt) and the gate's reasons to refuse them."""
        counts = cls()
        for name in _TOKENS:
            setattr(counts, name, pc.sum(draws.column(name)).as_py() or 0)
        ids = draws.column("id").combine_chunks()
        encoded = ids.dictionary_encode()
        sample = encoded.indices.to_numpy()
        slot = sample.astype(np.int64) << 16 | draws.column("draw").to_numpy()
        refused = reasons.is_valid().to_numpy(zero_copy_only=False)
        accepted_slots = np.unique(slot[~refused])
        counts.captions = len(encoded.dictionary)
        counts.accepted = len(accepted_slots)
        counts.captions_without_rewrite = counts.captions - len(np.unique(accepted_slots >> 16))
        last_of_slot = np.append(slot[1:] != slot[:-1], True)
        open_slots = last_of_slot & refused & ~np.isin(slot, accepted_slots)
        counts.unfilled = _count(reasons.filter(pa.array(open_slots)))
        counts.rejected = _count(reasons.drop_null())
        for reason in counts.rejected:
            found = ids.filter(pc.fill_null(pc.equal(reasons, reason), False))
            counts._name(reason, pc.unique(found)[:_NAMES_KEPT].to_pylist())
        tokens = draws.column("output_tokens").to_numpy()
        made = np.bincount(sample, weights=tokens, minlength=counts.captions) > 0
        with_text = np.bincount(sample, weights=draws.column("text").is_valid().to_numpy(), minlength=counts.captions)
        counts.reused = int(((with_text > 0) & ~made).sum())
        noted = np.append(True, sample[1:] != sample[:-1]) & pc.not_equal(draws.column("problems"), "").to_numpy()
        for sample_id, problems in zip(
            ids.filter(pa.array(noted)).to_pylist(), draws.column("problems").filter(noted).to_pylist(), strict=True
        ):
            for problem in problems.split(","):
                counts.problems[problem] += 1
                counts._name(problem, [sample_id])
        return counts


def _count(reasons: pa.Array) -> Counter[str]:
    return Counter({each["values"]: each["counts"] for each in reasons.value_counts().to_pylist()})
