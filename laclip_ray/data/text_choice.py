"""The text choice: which of a sample's texts its image is shown with in an epoch.

LaCLIP (Fan et al., NeurIPS 2023, section 3.3) shows the caption or one of M rewrites, chosen uniformly. Here the
probability of a rewrite is p; the paper's choice is p = M / (M + 1). p may depend on the epoch, or on a score of the
caption and the drawn rewrite.

Guarantees: the choice is a function of (seed, epoch, id, texts, scores) alone. It is nested in p: a sample that shows a
rewrite at some p shows the same rewrite at every larger p (example at `TextPolicy.choose`). Two draws make it so: one,
which does not depend on p, picks the rewrite; the other is compared with the p of that rewrite.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate
from typing import Any, NamedTuple, Protocol

from laclip_ray.config import RampConfig, ScoreChoiceConfig, ScoreRampConfig, TextConfig, TextMode
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
    """The draw chose a rewrite, but it is not committed: falls back to the caption."""
    REWRITE_REFUSED = 4
    """The draw chose a rewrite that the gate refused, though it accepted others: shows the caption (`text.refused:
    caption`)."""
    CAPTION_UNSCORED = 5
    """As `CAPTION`, and p was `text.p.unscored`: the drawn rewrite has no score."""
    REWRITE_UNSCORED = 6
    """As `REWRITE`, and the rewrite has no score for `text.p` or `text.choice`."""


FALLBACKS = (ShownText.NO_ACCEPTED_REWRITE, ShownText.NOT_REWRITTEN, ShownText.REWRITE_REFUSED)

SHOWS_REWRITE = (ShownText.REWRITE, ShownText.REWRITE_UNSCORED)

UNSCORED = (ShownText.CAPTION_UNSCORED, ShownText.REWRITE_UNSCORED)

LOWER_IS_BETTER = ("added",)
"""Scores whose small values are the good ones."""

_CAPTION_PICTURE = "caption_picture"
_CAPTION_WORDS = "caption_words"

ShownCounts = Mapping[int, Mapping[int, int]]
"""Number of samples by epoch and `ShownText`."""


class Rewrites(NamedTuple):
    """The accepted rewrites of a sample, ordered by rewrite set, then by slot."""

    texts: Sequence[str]
    weights: Sequence[float] = ()
    """Relative weight of each text; empty: 1 each."""
    refused: float = 0.0
    """Relative weight of the refused rewrites together. 0: their share goes to the accepted ones."""
    missing: float = 0.0
    """Total relative weight of uncommitted rewrites."""
    scores: Mapping[str, Sequence[float | None]] = {}
    """By the name of a score, its value for each text; None: not scored. Only the scores that the policy reads."""


SampleKey = tuple[str, str]
"""(id, caption hash): joins the samples of a shard with their rewrites."""


def renamed_samples(stored: Sequence[SampleKey], present: Sequence[SampleKey]) -> dict[SampleKey, SampleKey]:
    """Find the samples of a shard whose stored id differs from their id now.

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
        """The rewrites of a sample, by its id and caption. None: no rewrites.

        A sample with another id when it was rewritten is found by its row and caption (`renamed_samples`).

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
    p: float
    """The requested probability of a rewrite."""

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
    by_score: ScoreRampConfig | None = None
    """p as a function of a score, in every epoch. None: p is a function of the epoch."""
    choice: ScoreChoiceConfig | None = None
    """Prefers rewrites with good scores. None: only weights count."""

    def p(self, epoch: int) -> float:
        """The probability of a rewrite in an epoch (from 0), if it does not depend on a score."""
        if self.ramp_epochs < 2:
            return self.end
        return self.start + (self.end - self.start) * min(1.0, epoch / (self.ramp_epochs - 1))

    def choose(self, caption: str, rewrites: Rewrites | None, seed: int, epoch: int, sample_id: str) -> TextChoice:
        """Choose the texts of a sample's image.

        This sample draws 0.776, and shows rewrite "b" at every p above that:

        >>> policies = [TextPolicy("sample", 1, p, p, 1) for p in (0.3, 0.8, 1.0)]
        >>> [policy.choose("caption", Rewrites(["a", "b"]), 0, 0, "c").text for policy in policies]
        ['caption', 'b', 'b']

        Args:
            caption: the sample's caption.
            rewrites: its accepted rewrites; None if it has no committed rewrites.
            seed: the experiment's seed.
            epoch: the epoch, from 0.
            sample_id: the sample's id.
        """
        slot, shown, p = self._draw(caption, rewrites, seed, epoch, sample_id)
        chosen = caption if slot is None or rewrites is None else rewrites.texts[slot]
        if self.mode == "sample":
            return TextChoice((chosen,), distinct=1, sampled=0, shown=shown, p=p)
        if self.mode == "both":
            return TextChoice((caption, chosen), distinct=2, sampled=0, shown=shown, p=p)
        own = (caption, *(rewrites.texts if rewrites is not None else ()))[: self.slots]
        repeated = tuple(own[number % len(own)] for number in range(self.slots))
        sampled = 0 if slot is None else min(slot + 1, len(own) - 1)
        return TextChoice(repeated, distinct=len(own), sampled=sampled, shown=shown, p=p)

    def _draw(
        self, caption: str, rewrites: Rewrites | None, seed: int, epoch: int, sample_id: str
    ) -> tuple[int | None, ShownText, float]:
        """Draw a rewrite, or the caption.

        Returns:
            The number of the rewrite in `rewrites.texts`, None for the caption; which kind of text is shown; and p.
        """
        draw = uniform("text", seed, epoch, sample_id)
        if self.by_score is None:
            p, is_unscored = self.p(epoch), False
            if draw >= p:
                return None, ShownText.CAPTION, p
            slot, shown = _pick(rewrites, self.choice, seed, epoch, sample_id)
        else:
            slot, shown = _pick(rewrites, self.choice, seed, epoch, sample_id)
            score = _score_of(self.by_score.by, caption, rewrites, slot)
            p, is_unscored = p_of_score(self.by_score, score), slot is not None and score is None
            if draw >= p:
                return None, ShownText.CAPTION_UNSCORED if is_unscored else ShownText.CAPTION, p
        if slot is None or rewrites is None:
            return None, shown, p
        if self.choice is not None and not is_unscored:
            is_unscored = _scores(rewrites, self.choice.by)[slot] is None
        return slot, ShownText.REWRITE_UNSCORED if is_unscored else ShownText.REWRITE, p


def text_policy(text: TextConfig, epochs: int, rewrites: int) -> TextPolicy:
    """The text policy of a configuration.

    Args:
        text: the configuration.
        epochs: epochs of the run.
        rewrites: M, the most rewrites of any sample.
    """
    slots = {"sample": 1, "both": 2, "multi": 1 + rewrites}[text.mode]
    choice = text.choice if isinstance(text.choice, ScoreChoiceConfig) else None
    if text.mode == "both":
        return TextPolicy(text.mode, slots, 1.0, 1.0, 1, choice=choice)
    if isinstance(text.p, RampConfig):
        return TextPolicy(text.mode, slots, text.p.start, text.p.end, text.p.epochs or epochs, choice=choice)
    if isinstance(text.p, ScoreRampConfig):
        return TextPolicy(text.mode, slots, text.p.p_low, text.p.p_high, 1, by_score=text.p, choice=choice)
    p = rewrites / (rewrites + 1) if isinstance(text.p, str) else text.p
    return TextPolicy(text.mode, slots, p, p, 1, choice=choice)


def p_of_score(ramp: ScoreRampConfig, score: float | None) -> float:
    """The probability of a rewrite whose pair has this score.

    >>> ramp = ScoreRampConfig(by="caption_words", low=2, high=6, p_low=0.9, p_high=0.1)
    >>> [round(p_of_score(ramp, words), 2) for words in (1, 2, 4, 5, 6, 20)]
    [0.9, 0.9, 0.5, 0.3, 0.1, 0.1]
    """
    if score is None:
        return ramp.unscored or 0.0
    share = min(1.0, max(0.0, (score - ramp.low) / (ramp.high - ramp.low)))
    return ramp.p_low * (1 - share) + ramp.p_high * share


def _score_of(by: str, caption: str, rewrites: Rewrites | None, slot: int | None) -> float | None:
    """The score of a caption and a drawn rewrite. None: not scored."""
    if by == _CAPTION_WORDS:
        return float(len(caption.split()))
    if rewrites is None or not rewrites.texts:
        return None
    scores = _scores(rewrites, by)
    if by == _CAPTION_PICTURE:  # the same for all rewrites, but a set may lack it
        return next((score for score in scores if score is not None), None)
    return None if slot is None else scores[slot]


def _scores(rewrites: Rewrites, by: str) -> Sequence[float | None]:
    return rewrites.scores.get(by) or (None,) * len(rewrites.texts)


def _pick(
    rewrites: Rewrites | None, choice: ScoreChoiceConfig | None, seed: int, epoch: int, sample_id: str
) -> tuple[int | None, ShownText]:
    """Draw one of a sample's rewrites, in proportion to their weights.

    Returns:
        Its number in `rewrites.texts`, or None and the reason why the caption is shown instead.
    """
    if rewrites is None:
        return None, ShownText.NOT_REWRITTEN
    if not rewrites.texts:
        return None, ShownText.NO_ACCEPTED_REWRITE
    draw = uniform("rewrite", seed, epoch, sample_id)
    left_out = rewrites.refused + rewrites.missing
    if not rewrites.weights and not left_out and choice is None:
        return int(draw * len(rewrites.texts)), ShownText.REWRITE
    weights = rewrites.weights or (1.0,) * len(rewrites.texts)
    if choice is not None:
        weights = weighted_by_score(weights, _scores(rewrites, choice.by), choice)
    bounds = list(accumulate(weights))
    threshold = draw * (bounds[-1] + left_out)
    if threshold >= bounds[-1] and left_out:
        is_refused = threshold < bounds[-1] + rewrites.refused
        return None, ShownText.REWRITE_REFUSED if is_refused else ShownText.NOT_REWRITTEN
    return min(bisect_right(bounds, threshold), len(bounds) - 1), ShownText.REWRITE


def weighted_by_score(
    weights: Sequence[float], scores: Sequence[float | None], choice: ScoreChoiceConfig
) -> Sequence[float]:
    """Weights of a sample's rewrites, multiplied by exp(score / temperature). Their sum stays.

    >>> choice = ScoreChoiceConfig(by="meaning", temperature=0.5)
    >>> [round(weight, 2) for weight in weighted_by_score([1, 1, 1], [0.9, 0.4, None], choice)]
    [1.52, 0.56, 0.92]

    Args:
        weights: of the rewrites.
        scores: of the rewrites; None: not scored, and counts like the mean of the others.
        choice: the score and the temperature.
    """
    sign = -1.0 if choice.by in LOWER_IS_BETTER else 1.0
    known = [sign * score / choice.temperature for score in scores if score is not None]
    if not known or not any(weights):
        return weights
    mean = sum(known) / len(known)
    values = [mean if score is None else sign * score / choice.temperature for score in scores]
    # By logarithms: a small weight with a high score would make the others vanish, and the sum with them.
    logs = [math.log(weight) + value if weight else -math.inf for value, weight in zip(values, weights, strict=True)]
    top = max(logs)
    raised = [math.exp(log - top) for log in logs]
    scale = sum(weights) / sum(raised)
    return [scale * weight for weight in raised]


def newest_shares(counts_by_epoch: ShownCounts) -> dict[str, float]:
    """Shares of the newest epoch's samples, for a line of metrics.

    Returns:
        `p_effective_in_epoch`: share of all samples that showed a rewrite. `late_share_in_epoch`: of the samples whose
        draw chose a rewrite, the share that fell back because no rewrites were committed yet.
    """
    counts = counts_by_epoch[max(counts_by_epoch)] if counts_by_epoch else {}
    total = sum(counts.values())
    rewritten = sum(counts.get(shown, 0) for shown in SHOWS_REWRITE)
    wanted = rewritten + sum(counts.get(shown, 0) for shown in FALLBACKS)
    return {
        "p_effective_in_epoch": rewritten / total if total else 0.0,
        "late_share_in_epoch": counts.get(ShownText.NOT_REWRITTEN, 0) / wanted if wanted else 0.0,
    }


def text_shares(
    counts_by_epoch: ShownCounts, policy: TextPolicy, requested_p: Mapping[int, float] | None = None
) -> dict[str, Any]:
    """The requested p, the share of samples that showed a rewrite, and counts of fallbacks and of missing scores.

    Over several epochs, p is the mean over samples.

    Args:
        counts_by_epoch: samples by epoch and `ShownText`.
        policy: how their texts were chosen.
        requested_p: by epoch, the sum of the samples' p. Only read if p depends on a score.
    """
    totals = {epoch: sum(counts.values()) for epoch, counts in counts_by_epoch.items()}
    total = sum(totals.values())
    by_shown = {shown: sum(counts.get(shown, 0) for counts in counts_by_epoch.values()) for shown in ShownText}
    if policy.by_score is None:
        requested = sum(count * policy.p(epoch) for epoch, count in totals.items())
    else:
        requested = sum((requested_p or {}).get(epoch, 0.0) for epoch in totals)
    return {
        "p": requested / total if total else policy.p(0),
        "p_effective": sum(by_shown[shown] for shown in SHOWS_REWRITE) / total if total else 0.0,
        "fallbacks": {shown.name.lower(): by_shown[shown] for shown in FALLBACKS},
        "unscored": sum(by_shown[shown] for shown in UNSCORED),
    }
