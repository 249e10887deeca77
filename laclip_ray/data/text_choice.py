"""The text choice: which of a sample's texts its image is shown with in an epoch.

LaCLIP (Fan et al., NeurIPS 2023, section 3.3) shows the caption or one of M rewrites, chosen uniformly. Here the
probability of a rewrite is p; the paper's choice is p = M / (M + 1).

Guarantees: the choice is a function of (seed, epoch, id, texts) alone. It is nested in p: a sample that shows a
rewrite at some p shows the same rewrite at every larger p (example at `choose_rewrite`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate
from typing import Any, NamedTuple, Protocol

from laclip_ray.config import RampConfig, TextConfig, TextMode
from laclip_ray.randomness import uniform


class ShownText(IntEnum):
    """Which kind of text a sample shows, and why."""

    CAPTION = 0
    """The draw chose the caption."""
    REWRITE = 1
    """The draw chose a rewrite."""
    NO_ACCEPTED_REWRITE = 2
    """The draw chose a rewrite, but the gate accepted no rewrite: falls back to the caption."""
    NOT_REWRITTEN = 3
    """The draw chose a rewrite, but the sample has no committed rewrites: falls back to the caption."""


FALLBACKS = (ShownText.NO_ACCEPTED_REWRITE, ShownText.NOT_REWRITTEN)

ShownCounts = Mapping[int, Mapping[int, int]]
"""Number of samples by epoch and `ShownText`."""


class Rewrites(NamedTuple):
    """The accepted rewrites of a sample, ordered by rewrite set, then by slot."""

    texts: Sequence[str]
    weights: Sequence[float] = ()
    """Relative weight of each text; empty: equal weights."""


SampleKey = tuple[str, str]
"""(id, caption hash): joins the samples of a shard and what was made of them."""


def renamed_samples(stored: Sequence[SampleKey], present: Sequence[SampleKey]) -> dict[SampleKey, SampleKey]:
    """Find the samples of a shard that are stored under another id than they have now.

    An id follows settings: without `data.image_column` it cannot be the image's path. A stored sample with an unknown
    id is the sample of the same row, if that one has the same caption and is not stored under its own id.

    Args:
        stored: the samples at an earlier time, in the shard's order.
        present: the samples now, in the shard's order.

    Returns:
        The present key of each sample with another id, by the stored key.
    """
    stored_keys, present_keys = {*stored}, {*present}
    return {
        before: now
        for before, now in zip(stored, present, strict=False)
        if before[1] == now[1] and before not in present_keys and now not in stored_keys
    }


class ShardRewrites(dict[SampleKey, Rewrites]):
    """The accepted rewrites of a shard's samples, in the shard's order."""

    _by_row: Sequence[SampleKey] | None = None

    def of(self, sample_id: str, caption_hash: str, row: int) -> Rewrites | None:
        """The rewrites of a sample, by its id and caption; None if it has none.

        A sample that was rewritten under another id is found by its row and caption (`renamed_samples`).

        Args:
            sample_id: its id.
            caption_hash: the hash of its caption.
            row: its number in the shard.
        """
        found = self.get((sample_id, caption_hash))
        if found is None:
            if self._by_row is None:
                self._by_row = [*self]
            if row < len(self._by_row) and self._by_row[row][1] == caption_hash:
                return self[self._by_row[row]]
        return found


class RewriteLookup(Protocol):
    """Where training finds accepted rewrites."""

    def rewrites(self, shard_name: str) -> ShardRewrites | None:
        """Accepted rewrites of a shard's samples; None if the shard is not rewritten."""


class TextChoice(NamedTuple):
    """The texts that an image is shown with, and why."""

    texts: tuple[str, ...]
    """One text for each of `TextPolicy.slots`."""
    distinct: int
    """The first `distinct` texts are the sample's own; the others repeat them."""
    sampled: int
    """Index of the drawn text in `texts`."""
    shown: ShownText

    @property
    def text(self) -> str:
        """The drawn text."""
        return self.texts[self.sampled]


@dataclass(frozen=True)
class TextPolicy:
    """How a run chooses texts."""

    mode: TextMode
    slots: int
    """Texts per image in a batch."""
    start: float
    """p in the first epoch."""
    end: float
    """p in the ramp's last epoch, and in all later ones."""
    ramp_epochs: int
    """Epochs of the ramp from `start` to `end`, both included."""

    def p(self, epoch: int) -> float:
        """The probability of a rewrite in an epoch (from 0)."""
        if self.ramp_epochs < 2:
            return self.end
        return self.start + (self.end - self.start) * min(1.0, epoch / (self.ramp_epochs - 1))

    def choose(self, caption: str, rewrites: Rewrites | None, seed: int, epoch: int, sample_id: str) -> TextChoice:
        """Choose the texts of a sample's image.

        Args:
            caption: the sample's caption.
            rewrites: its accepted rewrites; None if it has no committed rewrites.
            seed: the experiment's seed.
            epoch: the epoch, from 0.
            sample_id: the sample's id.
        """
        slot, shown = choose_rewrite(rewrites, self.p(epoch), seed, epoch, sample_id)
        chosen = caption if slot is None or rewrites is None else rewrites.texts[slot]
        if self.mode == "sample":
            return TextChoice((chosen,), distinct=1, sampled=0, shown=shown)
        if self.mode == "both":
            return TextChoice((caption, chosen), distinct=2, sampled=0, shown=shown)
        own = (caption, *(rewrites.texts if rewrites is not None else ()))[: self.slots]
        repeated = tuple(own[number % len(own)] for number in range(self.slots))
        sampled = 0 if slot is None else min(slot + 1, len(own) - 1)
        return TextChoice(repeated, distinct=len(own), sampled=sampled, shown=shown)


def text_policy(text: TextConfig, epochs: int, rewrites: int) -> TextPolicy:
    """The text policy of a configuration.

    Args:
        text: the configuration.
        epochs: epochs of the run.
        rewrites: M, the most rewrites of any sample.
    """
    slots = {"sample": 1, "both": 2, "multi": 1 + rewrites}[text.mode]
    if text.mode == "both":
        return TextPolicy(text.mode, slots, 1.0, 1.0, 1)
    if isinstance(text.p, RampConfig):
        return TextPolicy(text.mode, slots, text.p.start, text.p.end, text.p.epochs or epochs)
    p = rewrites / (rewrites + 1) if isinstance(text.p, str) else text.p
    return TextPolicy(text.mode, slots, p, p, 1)


def choose_rewrite(
    rewrites: Rewrites | None, p: float, seed: int, epoch: int, sample_id: str
) -> tuple[int | None, ShownText]:
    """Draw a rewrite, or the caption.

    One draw, compared with p, decides between caption and rewrite. Another, which does not depend on p, picks the
    rewrite. So the choice is nested in p: this sample draws 0.776, and shows rewrite 1 at every p above that.

    >>> [choose_rewrite(Rewrites(["a", "b"]), p, seed=0, epoch=0, sample_id="c")[0] for p in (0.3, 0.8, 1.0)]
    [None, 1, 1]

    Returns:
        The slot of the rewrite in `rewrites.texts`, None for the caption; and which kind of text is shown.
    """
    if uniform("text", seed, epoch, sample_id) >= p:
        return None, ShownText.CAPTION
    if rewrites is None:
        return None, ShownText.NOT_REWRITTEN
    if not rewrites.texts:
        return None, ShownText.NO_ACCEPTED_REWRITE
    draw = uniform("rewrite", seed, epoch, sample_id)
    if not rewrites.weights:
        return int(draw * len(rewrites.texts)), ShownText.REWRITE
    bounds = list(accumulate(rewrites.weights))
    threshold = draw * bounds[-1]
    return next(slot for slot, bound in enumerate(bounds) if threshold < bound), ShownText.REWRITE


def newest_shares(counts_by_epoch: ShownCounts) -> dict[str, float]:
    """Shares of the newest epoch's samples, for a line of metrics.

    Returns:
        `p_effective_in_epoch`: share of all samples that showed a rewrite. `late_share_in_epoch`: of the samples whose
        draw chose a rewrite, the share that fell back because no rewrites were committed yet.
    """
    counts = counts_by_epoch[max(counts_by_epoch)] if counts_by_epoch else {}
    total = sum(counts.values())
    rewritten = counts.get(ShownText.REWRITE, 0)
    wanted = rewritten + sum(counts.get(shown, 0) for shown in FALLBACKS)
    return {
        "p_effective_in_epoch": rewritten / total if total else 0.0,
        "late_share_in_epoch": counts.get(ShownText.NOT_REWRITTEN, 0) / wanted if wanted else 0.0,
    }


def text_shares(counts_by_epoch: ShownCounts, policy: TextPolicy) -> dict[str, Any]:
    """The requested p, the share of samples that showed a rewrite, and the number of fallbacks by reason.

    Over several epochs, p is the mean over samples.
    """
    totals = {epoch: sum(counts.values()) for epoch, counts in counts_by_epoch.items()}
    total = sum(totals.values())
    by_shown = {shown: sum(counts.get(shown, 0) for counts in counts_by_epoch.values()) for shown in ShownText}
    requested = sum(count * policy.p(epoch) for epoch, count in totals.items())
    return {
        "p": requested / total if total else policy.p(0),
        "p_effective": by_shown[ShownText.REWRITE] / total if total else 0.0,
        "fallbacks": {shown.name.lower(): by_shown[shown] for shown in FALLBACKS},
    }
