"""The captions and draws that people see: in galleries, and in trackers.

Half of them are drawn at random. The other half makes every outcome visible: they go to each prompt set's reasons in
turn, so a rare reason has examples too. All draws are functions of (seed, shard, id).
"""

import heapq
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from laclip_ray.data.sample_pictures import PlacedKey
from laclip_ray.randomness import hash64
from laclip_ray.rewriting.tables import LOG_PROBABILITY, SCORES

_ROWS_OF_DRAWS = 40_000
"""Of a shard's draws, at most: a thousand samples, each with as many draws as a set can have."""


@dataclass(frozen=True)
class Draw:
    """A row of a set's draws."""

    prompt_set: str
    slot: int
    attempt: int
    text: str | None
    reason: str | None
    scores: Mapping[str, float]


@dataclass
class Caption:
    """A caption with its draws by all sets."""

    key: PlacedKey
    text: str
    draws: list[Draw]


def choose_shards(shards: Iterable[str], count: int, seed: int) -> list[str]:
    """The shards whose draws are read, by their names' hash: sets with equal shards get equal choices."""
    return heapq.nsmallest(count, shards, key=lambda shard: hash64("report", seed, shard))


def add_draws(
    captions: MutableMapping[PlacedKey, Caption], table: pa.Table, shard: str, prompt_set: str, samples: int
) -> list[Draw]:
    """Add the draws of the first samples of a shard to their captions.

    Args:
        captions: gets captions and draws.
        table: the draws with verdicts, in the shard's order.
        shard: its name.
        prompt_set: the name of their set.
        samples: how many of the shard's samples.

    Returns:
        The draws.
    """
    added: list[Draw] = []
    ids: set[str] = set()
    for row in table.slice(0, _ROWS_OF_DRAWS).to_pylist():
        ids.add(row["id"])
        if len(ids) > samples:
            break
        key = (shard, row["id"], row["caption_hash"])
        caption = captions.setdefault(key, Caption(key, row["caption"], []))
        known = {score: row[score] for score in (*SCORES, LOG_PROBABILITY) if row[score] is not None}
        draw = Draw(prompt_set, row["draw"], row["attempt"], row["text"], row["reason"], known)
        caption.draws.append(draw)
        added.append(draw)
    return added


def choose(captions: Sequence[Caption], count: int, seed: int) -> list[Caption]:
    """Choose captions, in the order in which they are shown: by their hash.

    Args:
        captions: to choose from.
        count: how many, at most.
        seed: decides which.
    """
    rank = {caption.key: hash64("report", seed, *caption.key) for caption in captions}
    ranked = sorted(captions, key=lambda caption: rank[caption.key])
    chosen = {caption.key: caption for caption in ranked[: -(-count // 2)]}
    by_outcome: dict[tuple[str, str], list[Caption]] = {}
    for caption in ranked:
        for outcome in {(draw.prompt_set, draw.reason or "") for draw in caption.draws}:
            by_outcome.setdefault(outcome, []).append(caption)
    queues = [iter(by_outcome[outcome]) for outcome in sorted(by_outcome)]
    while queues and len(chosen) < count:
        queues = [queue for queue in queues if _take(queue, chosen, count)]
    return sorted(chosen.values(), key=lambda caption: rank[caption.key])


def _take(queue: Any, chosen: dict[PlacedKey, Caption], count: int) -> bool:
    """Choose the first caption of a queue that is not chosen yet; False if it has none."""
    for caption in queue:
        if len(chosen) >= count:
            return False
        if caption.key not in chosen:
            chosen[caption.key] = caption
            return True
    return False
