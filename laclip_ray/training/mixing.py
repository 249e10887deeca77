"""How well a batch is mixed: the shards that its samples come from, and whether the samples of a shard resemble each
other.

A contrastive loss compares the samples of a batch. If the order of the data has a meaning (classes, sources, dates) and
a batch comes from few shards, its samples are more alike than the data is, and training is worse.

The number of shards is counted at every line of metrics, in the newest global batch. The resemblance is measured once,
in the first batch of the first worker that has rows of two shards: words that captions share, in pairs of one shard and
of two.

Not covered: data whose pictures are ordered and whose captions are not.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from laclip_ray.config import StreamConfig
from laclip_ray.randomness import generator

_ROWS = 2_048
"""Compared rows of a batch: enough to tell, in 0.1 s."""
_PAIRS = 1_024
_PAIRS_PER_ROW = 4
"""Upper bound on compared pairs of these rows, for each kind."""
_COMMON_SHARE = 0.5
"""A token in more than this share of the texts is ignored: padding, the start of a text, an article. The share is
the mean of the shards' shares: in a batch of few shards, the words of the largest one are not common."""
_TRIES = 8
"""The number of batches to measure resemblance in."""
_STANDARD_ERRORS = 5.0
_EXCESS = 1.5
"""The captions of a shard resemble each other if they share this many times the words of other pairs, and by so many
standard errors more."""
_FEW_SHARDS = 8
"""A batch of fewer shards is poorly mixed even if its captions do not show it."""
_MIXED_SHARE = 0.5
"""A batch with this share of the shards that a full shuffle would give it is well mixed."""


@dataclass(frozen=True)
class Resemblance:
    """The mean share of words that two captions have in common (of the words of both)."""

    in_shard: float
    """Pairs of rows of one shard."""
    across: float
    """Pairs of rows of two shards."""
    is_ordered: bool
    """Whether the captions of a shard surely resemble each other."""


class Mixing:
    """Watches the batches of one worker."""

    def __init__(self, shard_count: int) -> None:
        """Start before the first batch.

        Args:
            shard_count: shards in the schedule.
        """
        self._shard_count = shard_count
        self._newest: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self._tries = 0
        self.resemblance: Resemblance | None = None
        """Measured on the first batch with pairs of both kinds. None: no such batch so far."""

    def add(self, batch: Mapping[str, Any]) -> None:
        """Note a batch (columns of `entries.Batch`)."""
        self._newest = np.asarray(batch["schedule_index"])
        if self.resemblance is None and self._tries < _TRIES:
            self._tries += 1
            sampled = np.asarray(batch["text_sampled"])
            tokens = np.asarray(batch["tokens"])[np.arange(len(sampled)), sampled]
            self.resemblance = measure_resemblance(tokens, self._newest % self._shard_count)

    def shards(self) -> list[int]:
        """The shards of the newest batch."""
        shards: list[int] = np.unique(self._newest % self._shard_count).tolist()
        return shards

    def warning(self, shards: Iterable[Sequence[int]], batch_size: int, stream: StreamConfig) -> str | None:
        """A warning about the mixture of the newest global batch. None: it is well mixed.

        Args:
            shards: from `shards`, of all workers.
            batch_size: samples of the global batch.
            stream: names the settings that mix more.
        """
        return mixing_warning(count_shards(shards), self._shard_count, batch_size, self.resemblance, stream)


def count_shards(shards: Iterable[Sequence[int]]) -> int:
    """Distinct shards in lists of shards."""
    return len({shard for of_worker in shards for shard in of_worker})


def measure_resemblance(tokens: npt.NDArray[np.int64], shards: npt.NDArray[np.int64]) -> Resemblance | None:
    """Compare the texts of a batch in pairs of one shard and of two.

    Args:
        tokens: [N, L] of the texts.
        shards: [N] the shard of each row.
    """
    draws = generator("mixing")
    rows = draws.permutation(len(shards))[:_ROWS]
    tokens, shards = tokens[rows], shards[rows]
    by_shard = {shard: np.flatnonzero(shards == shard) for shard in np.unique(shards).tolist()}
    texts = _distinct_tokens(tokens, list(by_shard.values()))
    first = np.tile(draws.permutation(len(shards)), _PAIRS_PER_ROW)[:_PAIRS]
    same = [
        (row, int(draws.choice(by_shard[shards[row]])))
        for row in first.tolist()
        if len(by_shard[shards[row]]) > 1 and len(by_shard) > 1
    ]
    others = draws.integers(len(shards), size=len(first)).tolist()
    in_shard = [_overlap(texts[row], texts[other]) for row, other in same if row != other]
    across = [
        _overlap(texts[row], texts[other])
        for row, other in zip(first.tolist(), others, strict=True)
        if shards[row] != shards[other]
    ]
    if len(in_shard) < 2 or len(across) < 2:
        return None
    error = math.sqrt(float(np.var(in_shard)) / len(in_shard) + float(np.var(across)) / len(across))
    near, far = float(np.mean(in_shard)), float(np.mean(across))
    return Resemblance(near, far, near - far > _STANDARD_ERRORS * error and near > _EXCESS * far)


def _distinct_tokens(
    tokens: npt.NDArray[np.int64], rows_by_shard: Sequence[npt.NDArray[np.int64]]
) -> list[frozenset[int]]:
    """The distinct tokens of each text, without tokens of most texts."""
    texts = [frozenset(text) for text in tokens.tolist()]
    shares: defaultdict[int, float] = defaultdict(float)
    for rows in rows_by_shard:
        counts = Counter(token for row in rows.tolist() for token in texts[row])
        for token, count in counts.items():
            shares[token] += count / len(rows)
    common = frozenset(token for token, share in shares.items() if share > _COMMON_SHARE * len(rows_by_shard))
    return [text - common for text in texts]


def _overlap(first: frozenset[int], second: frozenset[int]) -> float:
    both = len(first | second)
    return len(first & second) / both if both else 0.0


def mixing_warning(
    shards: int, shard_count: int, batch_size: int, resemblance: Resemblance | None, stream: StreamConfig
) -> str | None:
    """A warning about the mixture of a batch. None: it is well mixed.

    Args:
        shards: distinct shards in it.
        shard_count: shards in the data.
        batch_size: its samples.
        resemblance: of the captions, if it is known.
        stream: names the settings that mix more.
    """
    mixed = round(shard_count * (1 - (1 - 1 / shard_count) ** batch_size))
    if shards >= _MIXED_SHARE * mixed:
        return None
    is_ordered = resemblance is not None and resemblance.is_ordered
    if not is_ordered and shards >= _FEW_SHARDS:
        return None
    count = f"a batch mixes the samples of {shards:,} of {shard_count:,} shards (a full shuffle: {mixed:,})"
    if is_ordered and resemblance is not None:
        why = (
            f"the data is ordered: captions of one shard share {resemblance.in_shard:.0%} of their words, captions of "
            f"two shards {resemblance.across:.0%}, and {count}. Its samples are more alike than the data, which makes "
            "a worse model"
        )
    else:
        why = f"{count}. If the order of the data has a meaning (classes, sources, dates), this makes a worse model"
    if stream.order == "exact":
        return f"{why}. stream.order=fast mixes more shards; shards written in random order mix fully"
    return (
        f"{why}. Raise stream.shuffle_buffer_rows ({stream.shuffle_buffer_rows:,} now) or the CPUs that read shards; "
        "shards written in random order mix fully"
    )
