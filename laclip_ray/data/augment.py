"""The text choice: which of a sample's texts its image is shown with in an epoch.

LaCLIP (Fan et al., NeurIPS 2023, section 3.3) shows the original or one of M rewrites at random. Here the
probability of a rewrite is p, and the paper's uniform choice among 1 + M texts is p = M / (M + 1).

Guarantees: the choice is a function of (seed, epoch, id, texts) alone. It is nested in p: a sample that shows a
rewrite at some p shows the same rewrite at every larger p.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from laclip_ray.randomness import uniform


class TextSource(IntEnum):
    """Why a sample shows the text that it shows."""

    CAPTION = 0
    """The draw chose the original."""
    REWRITE = 1
    """The draw chose a rewrite."""
    NO_ACCEPTED_REWRITE = 2
    """The draw chose a rewrite, but the gate accepted none: the original is shown."""
    NOT_REWRITTEN = 3
    """The draw chose a rewrite, but no rewrites of the sample are committed: the original is shown."""


FALLBACKS = (TextSource.NO_ACCEPTED_REWRITE, TextSource.NOT_REWRITTEN)


@dataclass(frozen=True)
class TextChoice:
    """The text an image is shown with, and why."""

    text: str
    source: TextSource


def choose_text(
    caption: str, rewrites: Sequence[str] | None, p: float, seed: int, epoch: int, sample_id: str
) -> TextChoice:
    """Choose between a caption and its accepted rewrites.

    Args:
        caption: the original.
        rewrites: the accepted rewrites, in the order of their sets and draws; None where none are committed.
        p: the probability of a rewrite.
        seed: the experiment's seed.
        epoch: the epoch, from 0.
        sample_id: the sample's id.
    """
    if uniform("text", seed, epoch, sample_id) >= p:
        return TextChoice(caption, TextSource.CAPTION)
    if rewrites is None:
        return TextChoice(caption, TextSource.NOT_REWRITTEN)
    if not rewrites:
        return TextChoice(caption, TextSource.NO_ACCEPTED_REWRITE)
    which = int(uniform("rewrite", seed, epoch, sample_id) * len(rewrites))
    return TextChoice(rewrites[which], TextSource.REWRITE)
