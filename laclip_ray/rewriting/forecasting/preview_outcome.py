"""The gate's verdicts on a preview's draws: shares of accepted rewrites, reasons, and remedies for few of them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from laclip_ray.intervals import Proportion, proportion_interval
from laclip_ray.rewriting import tables
from laclip_ray.rewriting.forecasting.preview import PreviewedCaption
from laclip_ray.rewriting.judging.gate import Rejection
from laclip_ray.rewriting.judging.meaning import MEANING_ADDED, MEANING_LOST, UNLIKELY

LEAST_SHARE = 0.5
"""With a smaller share of accepted rewrites, a preview says what to do."""

_LARGER_MODEL = "a larger rewrite.model adds and loses less"
_OTHER_MODE = (
    "set rewrite.mode to chat for an instruct model, and to completion for a base model; if it is right, take a larger "
    "rewrite.model"
)
_REMEDIES = {
    **dict.fromkeys(
        (MEANING_LOST, MEANING_ADDED, UNLIKELY, Rejection.FROM_EXAMPLE, Rejection.UNRELATED), _LARGER_MODEL
    ),
    **dict.fromkeys(
        (Rejection.NUMBERS_LOST, Rejection.PLACEHOLDERS_CHANGED),
        "a larger rewrite.model keeps more of them; if they do not matter to you, rewrite.gate can let them go",
    ),
    **dict.fromkeys(
        (Rejection.COPY_OF_CAPTION, Rejection.NEAR_COPY),
        "the model repeats the captions; take a larger rewrite.model, or raise rewrite.sampling.temperature",
    ),
    Rejection.COPY_OF_REWRITE: "raise rewrite.sampling.temperature, or lower rewrite.rewrites_per_set",
    **dict.fromkeys(
        (
            *(Rejection.REFUSAL, Rejection.CHAT_PHRASE, Rejection.PROMPT_ECHO, Rejection.MARKUP_LEFT),
            *(Rejection.COPY_OF_EXAMPLE, Rejection.EMPTY, Rejection.LOOPING),
        ),
        _OTHER_MODE,
    ),
    Rejection.TRUNCATED: f"{_OTHER_MODE}; else raise rewrite.sampling.max_tokens",
    Rejection.TOO_LONG: "use prompt sets that write less, such as assistant_concise and cleaned",
    tables.PROMPT_TOO_LONG: "raise rewrite.engine.args.max_model_len",
    **dict.fromkeys(
        (tables.REQUEST_REFUSED, tables.REQUEST_FAILED, tables.GATE_FAILED),
        "look at the warnings above, and check rewrite.model and rewrite.engine",
    ),
}
"""What to do about the most frequent reason of missing rewrites."""


@dataclass
class Outcome:
    """The outcomes of captions in one prompt set, or in all."""

    captions: int = 0
    slots: int = 0
    """Rewrites asked for."""
    accepted: int = 0
    """Slots with an accepted text."""
    texts: int = 0
    """Draws with a text, repeated attempts too."""
    refused: Counter[str] = field(default_factory=Counter)
    """Draws by the reason to refuse them, repeated attempts too."""
    missing: Counter[str] = field(default_factory=Counter)
    """Slots without an accepted text, by the reason of the last attempt."""

    @property
    def share(self) -> float:
        """Share of the slots with an accepted text."""
        return self.accepted / self.slots if self.slots else 0.0

    @property
    def interval(self) -> Proportion:
        """The 95 % interval of `share`.

        It counts captions, not slots: the rewrites of one caption are not independent.
        """
        return proportion_interval(round(self.share * self.captions), self.captions)


def outcome_of(captions: Iterable[PreviewedCaption], prompt_set: str | None = None) -> Outcome:
    """Count the outcomes of captions.

    Args:
        captions: with their draws.
        prompt_set: counts only this one. None: all.
    """
    outcome = Outcome()
    for caption in captions:
        outcome.captions += 1
        for name, draws in caption.draws.items():
            if prompt_set in (None, name):
                last = {draw.slot: draw.reason for draw in draws}
                accepted = {draw.slot for draw in draws if draw.reason is None}
                outcome.slots += len(last)
                outcome.accepted += len(accepted)
                outcome.texts += sum(draw.text is not None for draw in draws)
                outcome.refused.update(draw.reason for draw in draws if draw.reason is not None)
                outcome.missing.update(
                    reason for slot, reason in last.items() if slot not in accepted and reason is not None
                )
    return outcome


def outcomes_of(captions: Iterable[PreviewedCaption], prompt_sets: Iterable[str]) -> dict[str, Outcome]:
    """The outcomes by prompt set."""
    captions = list(captions)
    return {name: outcome_of(captions, name) for name in prompt_sets}


def advice(outcomes: Mapping[str, Outcome]) -> str | None:
    """What to do if a prompt set has fewer than half of its rewrites accepted; None if each has more.

    Args:
        outcomes: by prompt set.
    """
    poor = {name: outcome for name, outcome in outcomes.items() if outcome.missing and outcome.share < LEAST_SHARE}
    if not poor:
        return None
    missing = sum((outcome.missing for outcome in poor.values()), Counter[str]())
    ((reason, count),) = missing.most_common(1)
    shares = ", ".join(f"{name} {outcome.share:.0%}" for name, outcome in poor.items())
    remedy = _REMEDIES.get(reason, "take another rewrite.model or rewrite.mode")
    leave_out = "" if len(poor) == len(outcomes) else "; or leave these sets out of rewrite.prompt_sets"
    return (
        f"Under half of the rewrites are accepted: {shares}. The most frequent reason of the missing ones is {reason} "
        f"({count:,} of {missing.total():,}): {remedy}{leave_out}."
    )
