"""How well a gate agrees with people: precision and recall of its verdicts on labelled rewrites."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from laclip_ray.config import GateConfig, MeaningGateConfig
from laclip_ray.data.tokens import TokenizerSpec, count_tokens
from laclip_ray.errors import UserError
from laclip_ray.rewriting.judging.calibration import (
    LEAST_LABELS,
    LabelledRewrite,
    Quality,
    Thresholds,
    cross_validated,
    find_thresholds,
)
from laclip_ray.rewriting.judging.gate import Gate
from laclip_ray.rewriting.judging.text import plain_text
from laclip_ray.rewriting.scoring.meaning_pool import LocalEncoders
from laclip_ray.rewriting.scoring.meaning_verdicts import ScoresPairs


@dataclass(frozen=True)
class GateQuality:
    """The measured quality of gates on the same labels."""

    rows: dict[str, Quality]
    """By gate."""
    found: Thresholds | None
    """With the wanted precision on these labels; None: none have it."""
    few: str
    """Kinds with too few labels, as text; empty: none."""
    copies: int
    """Labelled copies of captions, which are left out: a copy is faithful, and no rewrite."""
    least: int = LEAST_LABELS


def measure_gate(
    rewrites: Sequence[LabelledRewrite], config: GateConfig, precision: float, encoders: ScoresPairs | None = None
) -> GateQuality:
    """Measure the checks of texts alone, the configured gate, and the thresholds that these labels ask for.

    Args:
        rewrites: at least one.
        config: the gate. Without a meaning gate, thresholds are sought for the default encoder.
        precision: the wanted precision.
        encoders: score pairs. None: the configured encoder, in this process.

    Raises:
        UserError: there are only copies of captions, or the encoder cannot be loaded.
    """
    meaning = config.meaning or MeaningGateConfig()
    encoders = encoders or LocalEncoders(meaning)
    copies = [rewrite for rewrite in rewrites if plain_text(rewrite.rewrite) == plain_text(rewrite.caption)]
    rewrites = [rewrite for rewrite in rewrites if rewrite not in copies]
    if not rewrites:
        raise UserError(
            "all labelled rewrites are copies of their captions, so there is nothing to measure; label rewrites that "
            "differ"
        )
    faithful = np.array([rewrite.faithful for rewrite in rewrites])
    by_text = np.array(accepted_by_text(rewrites, config))
    scores = np.array(encoders.score_now([(rewrite.caption, rewrite.rewrite) for rewrite in rewrites]), np.float32)
    rows = {"checks of the text alone": Quality.of(by_text, faithful)}
    if config.meaning is not None:
        set_now = Thresholds(meaning.added_weight, meaning.min_faithfulness)
        rows["the whole gate, as configured"] = Quality.of(by_text & set_now.accept(scores), faithful)
    scored, labels = scores[by_text], faithful[by_text]
    found = find_thresholds(scored, labels, precision)
    if found is not None:
        rows["with the thresholds found"] = Quality.of(by_text & found.accept(scores), faithful)
        captions = [rewrite.caption for rewrite, accepted in zip(rewrites, by_text, strict=True) if accepted]
        held_out = by_text.copy()
        held_out[by_text] = cross_validated(scored, labels, precision, captions)
        rows["the same, each rewrite held out"] = Quality.of(held_out, faithful)
    kinds = {"faithful": int(faithful.sum()), "unfaithful": int((~faithful).sum())}
    few = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count < LEAST_LABELS)
    return GateQuality(rows, found, few, len(copies))


def accepted_by_text(rewrites: Sequence[LabelledRewrite], config: GateConfig) -> list[bool]:
    """Whether the checks of the text accept each rewrite. Its prompt is not known, so it is compared with none."""
    gate = Gate(config, ((),), partial(count_tokens, TokenizerSpec(None, 77)))
    return [gate.judge(rewrite.rewrite, rewrite.caption, truncated=False, head=0) is None for rewrite in rewrites]
