"""The slots of a shard's samples as training reads them: which hold a rewrite, and with which scores. Pure functions.

Guarantees: the first accepted draw of a slot counts, such that a sample has at most one rewrite per slot.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from laclip_ray.data.text_choice import Rewrites, SampleKey


class Accepted(NamedTuple):
    """The accepted rewrite of a slot."""

    text: str
    scores: tuple[float | None, ...] = ()
    """The wanted scores, in order."""


Slots = dict[int, Accepted | None]
"""Of a sample in one set, by slot: its rewrite; None: refused, or without a text."""


def slots_of_samples(verdicts: pa.Table, draws: pa.Table, scores: Sequence[str] = ()) -> dict[SampleKey, Slots]:
    """The slots of a shard's samples.

    Args:
        verdicts: a table of `VERDICTS_SCHEMA`.
        draws: the text, and the scores that are not in `verdicts`, of the same rows. A score may be in neither.
        scores: names of the scores to read.

    Returns:
        By (id, caption hash) in the shard's order, the slots in the order of the rows.
    """
    rows = [column_values(verdicts, name) for name in ("id", "caption_hash", "draw", "reason")]
    rows.append(column_values(draws, "text"))
    score_rows: list[tuple[float | None, ...]] = [()] * verdicts.num_rows
    if scores:
        score_rows = list(zip(*(_score_values(verdicts, draws, name) for name in scores), strict=True))
    by_sample: dict[SampleKey, Slots] = {}
    for sample_id, caption_hash, slot, reason, text, of_row in zip(*rows, score_rows, strict=True):
        slots = by_sample.setdefault((sample_id, caption_hash), {})
        if reason is not None:
            slots.setdefault(slot, None)
        elif slots.get(slot) is None:
            slots[slot] = Accepted(text, of_row)
    return by_sample


def column_values(table: pa.Table, name: str) -> list[Any]:
    """The values of a column (null: None), in a fraction of the time that `to_pylist` takes."""
    found: list[Any] = table.column(name).to_numpy().tolist()
    return found


def _score_values(verdicts: pa.Table, draws: pa.Table, name: str) -> list[float | None]:
    table = verdicts if name in verdicts.column_names else draws
    if name not in table.column_names:
        return [None] * verdicts.num_rows
    values: list[float | None] = table.column(name).to_pylist()  # with nulls: numpy has no null
    return values


def merge_accepted(
    slots_of_sets: Mapping[int, Slots],
    weights: Sequence[float] | None = None,
    scores: Sequence[str] = (),
    limit: int | None = None,
) -> Rewrites:
    """Merge a sample's rewrites. The share of a refused one goes to the others.

    Args:
        slots_of_sets: the sample's slots, by the number of the set.
        weights: by the number of the set; a set's accepted rewrites share its weight. None: all rewrites are equally
            likely.
        scores: names of the scores that the slots hold.
        limit: use only the first rewrites, this many. None: all.
    """
    if weights is None and not scores:  # the usual case, in little time
        texts = [rewrite.text for slots in slots_of_sets.values() for rewrite in slots.values() if rewrite is not None]
        return Rewrites(texts if limit is None else texts[:limit])
    kept = [
        (rewrite, number)
        for number, slots in slots_of_sets.items()
        for rewrite in slots.values()
        if rewrite is not None
    ][:limit]
    rewrites = [rewrite for rewrite, _ in kept]
    shares: Sequence[float] = ()
    if weights is not None:
        numbers = [number for _, number in kept]
        shares = [weights[number] / numbers.count(number) for number in numbers]
    return Rewrites([rewrite.text for rewrite in rewrites], shares, scores=_by_name(rewrites, scores))


def merge_slots(
    slots_of_sets: Mapping[int, Slots],
    counts: Sequence[int],
    weights: Sequence[float] | None = None,
    scores: Sequence[str] = (),
    limit: int | None = None,
) -> Rewrites:
    """Merge a sample's rewrites, each with the weight of its slot. The share of a refused one goes to the caption.

    Args:
        slots_of_sets: the sample's slots, by the number of the set. A set that has not committed the sample is missing.
        counts: by the number of the set, the slots that it has for each sample, drawn or not.
        weights: by the number of the set; a set's slots share its weight. None: all slots are equally likely.
        scores: names of the scores that the slots hold.
        limit: use only the first slots, this many. None: all.
    """
    rewrites: list[Accepted] = []
    shares: list[float] = []
    refused = missing = 0.0
    left = limit
    for number, expected in enumerate(counts):
        slots = slots_of_sets.get(number, {})
        count = max(expected, len(slots))
        used = count if left is None else min(left, count)
        left = None if left is None else left - used
        share = weights[number] / count if weights is not None and count else 1.0
        found = [rewrite for slot, rewrite in slots.items() if slot < used]
        accepted = [rewrite for rewrite in found if rewrite is not None]
        rewrites += accepted
        shares += [share] * len(accepted)
        refused += share * (len(found) - len(accepted))
        missing += share * (used - len(found))
    texts = [rewrite.text for rewrite in rewrites]
    return Rewrites(texts, () if weights is None else shares, refused, missing, _by_name(rewrites, scores))


def _by_name(rewrites: Sequence[Accepted], scores: Sequence[str]) -> dict[str, list[float | None]]:
    return {name: [rewrite.scores[column] for rewrite in rewrites] for column, name in enumerate(scores)}
