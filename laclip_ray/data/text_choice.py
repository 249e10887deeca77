"""The text choice: which of a sample's texts its image is shown with in an epoch.

LaCLIP (Fan et al., NeurIPS 2023, section 3.3) shows the original or one of M rewrites at random. Here the
probability of a rewrite is p, and the paper's uniform choice among 1 + M texts is p = M / (M + 1).

Guarantees: the choice is a function of (seed, epoch, id, texts) alone. It is nested in p: a sample that shows a
rewrite at some p shows the same rewrite at every larger p.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate
from typing import Any, NamedTuple

from laclip_ray.config import RampConfig, TextConfig
from laclip_ray.randomness import uniform


class ShownText(IntEnum):
    """Why a sample shows the text that it shows."""

    CAPTION = 0
    """The draw chose the original."""
    REWRITE = 1
    """The draw chose a rewrite."""
    NO_ACCEPTED_REWRITE = 2
    """The draw chose a rewrite, but the gate accepted none: the original is shown."""
    NOT_REWRITTEN = 3
    """The draw chose a rewrite, but no rewrites of the sample are committed: the original is shown."""


FALLBACKS = (ShownText.NO_ACCEPTED_REWRITE, ShownText.NOT_REWRITTEN)


class Rewrites(NamedTuple):
    """The accepted rewrites of a sample, in the order of their sets and draws."""

    texts: Sequence[str]
    weights: Sequence[float] = ()
    """How likely each is, in proportion; empty: all the same."""


class TextChoice(NamedTuple):
    """What an image is shown with, and why."""

    texts: tuple[str, ...]
    """As many as the mode has slots."""
    distinct: int
    """The first so many are different texts of the sample; the others repeat them."""
    sampled: int
    """The one that was drawn."""
    shown: ShownText

    @property
    def text(self) -> str:
        """The one that was drawn."""
        return self.texts[self.sampled]


@dataclass(frozen=True)
class TextPolicy:
    """How texts are chosen in a run."""

    mode: str
    """`sample`, `both` or `multi`, as `text.mode` says."""
    slots: int
    """Texts an image has in a batch."""
    start: float
    """p in the first epoch."""
    end: float
    """p in the last epoch of the ramp, and after it."""
    ramp_epochs: int
    """Epochs from `start` to `end`, both included."""

    def p(self, epoch: int) -> float:
        """The probability of a rewrite in an epoch (from 0)."""
        if self.ramp_epochs < 2:
            return self.end
        return self.start + (self.end - self.start) * min(1.0, epoch / (self.ramp_epochs - 1))

    def choose(self, caption: str, rewrites: Rewrites | None, seed: int, epoch: int, sample_id: str) -> TextChoice:
        """The texts that a sample's image is shown with.

        Args:
            caption: the original.
            rewrites: the accepted rewrites; None where none are committed.
            seed: the experiment's seed.
            epoch: the epoch, from 0.
            sample_id: the sample's id.
        """
        which, shown = choose_rewrite(rewrites, self.p(epoch), seed, epoch, sample_id)
        if self.mode == "sample":
            return TextChoice((caption if which is None else _at(rewrites, which),), 1, 0, shown)
        if self.mode == "both":
            return TextChoice((caption, caption if which is None else _at(rewrites, which)), 2, 0, shown)
        own = (caption, *(rewrites.texts if rewrites is not None else ()))[: self.slots]
        repeated = tuple(own[slot % len(own)] for slot in range(self.slots))
        return TextChoice(repeated, len(own), 0 if which is None else min(which + 1, len(own) - 1), shown)


def text_policy(text: TextConfig, epochs: int, rewrites: int) -> TextPolicy:
    """How texts are chosen with a configuration.

    Args:
        text: the configuration.
        epochs: of the run.
        rewrites: M, the most rewrites that a sample can have.
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
    """The number of the rewrite that is shown, None for the caption, and why."""
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
    reached = draw * bounds[-1]
    return next(number for number, bound in enumerate(bounds) if reached < bound), ShownText.REWRITE


def _at(rewrites: Rewrites | None, which: int) -> str:
    assert rewrites is not None
    return rewrites.texts[which]


ShownCounts = Mapping[int, Mapping[int, int]]
"""Samples by epoch and `ShownText`."""


def newest_shares(counts_by_epoch: ShownCounts) -> dict[str, float]:
    """Of the newest epoch: the share of samples that showed a rewrite; and the share of those that were to show one but
    did not because it was not there yet."""
    counts = counts_by_epoch[max(counts_by_epoch)] if counts_by_epoch else {}
    total = sum(counts.values())
    rewritten = counts.get(ShownText.REWRITE, 0)
    wanted = rewritten + sum(counts.get(shown, 0) for shown in FALLBACKS)
    return {
        "p_effective_in_epoch": rewritten / total if total else 0.0,
        "late_share_in_epoch": counts.get(ShownText.NOT_REWRITTEN, 0) / wanted if wanted else 0.0,
    }


def text_shares(counts_by_epoch: ShownCounts, plan: TextPolicy) -> dict[str, Any]:
    """The p asked for, the share of samples that showed a rewrite, and the fallbacks by reason."""
    totals = {epoch: sum(counts.values()) for epoch, counts in counts_by_epoch.items()}
    total = sum(totals.values())
    by_shown = {shown: sum(counts.get(shown, 0) for counts in counts_by_epoch.values()) for shown in ShownText}
    asked = sum(count * plan.p(epoch) for epoch, count in totals.items())
    return {
        "p": asked / total if total else plan.p(0),
        "p_effective": by_shown[ShownText.REWRITE] / total if total else 0.0,
        "fallbacks": {shown.name.lower(): by_shown[shown] for shown in FALLBACKS},
    }
