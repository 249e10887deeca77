"""Which captions a gallery shows. Pure.

Half of them are drawn at random. The other half makes every outcome visible: they go to each prompt set's reasons in
turn, so a rare reason has examples too. All draws are functions of (seed, shard, id).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from laclip_ray.randomness import hash64

SampleKey = tuple[str, str, str]
"""The shard, the id and the caption's hash."""


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

    key: SampleKey
    text: str
    draws: list[Draw]


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


def _take(queue: Any, chosen: dict[SampleKey, Caption], count: int) -> bool:
    """Choose the first caption of a queue that is not chosen yet; False if it has none."""
    for caption in queue:
        if len(chosen) >= count:
            return False
        if caption.key not in chosen:
            chosen[caption.key] = caption
            return True
    return False
