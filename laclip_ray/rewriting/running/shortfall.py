"""Rewriting that yields little: when a run ends early, is incomplete, or warns.

A rewrite *fails* if it has no whole text: the row has no caption or none with a word, the engine gave no completion, or
an empty or truncated one. A text that the gate refuses for its content does not fail.

Guarantees: the verdict depends on the counts alone, so a rerun that has no work left gives the same one.
"""

from collections import Counter
from collections.abc import Mapping

from laclip_ray.data.records import NO_CAPTION
from laclip_ray.errors import IncompleteError
from laclip_ray.rewriting import tables
from laclip_ray.rewriting.inspection import RETRYABLE
from laclip_ray.rewriting.judging.gate import Rejection
from laclip_ray.rewriting.storing.statistics import Statistics

FAILURES = frozenset(
    {
        *NO_CAPTION,
        tables.CAPTION_TOO_LONG,
        tables.NOTHING_TO_REWRITE,
        *tables.FAILED_REQUESTS,
        tables.GATE_FAILED,
        Rejection.EMPTY.value,
        Rejection.TRUNCATED.value,
    }
)
"""Reasons of slots without a whole text."""

LEAST_ROWS = 1_000
"""Rows that a share of failures must be of before it ends a run."""
LEAST_SHARDS = 3
"""Shards that the rows must be of, if the data has as many: one bad file does not end a run."""
_WARNING_SHARE = 0.5
"""A set with a smaller share of accepted rewrites gets a warning."""
_REASONS_SHOWN = 5


class ShortfallError(IncompleteError):
    """Rewriting yields too little to be a success, and the same command would end in the same way."""


def failed_share_error(
    statistics: Mapping[str, Statistics], max_failed_share: float, shards: int, shards_counted: int
) -> ShortfallError | None:
    """The error that ends a run whose share of failed rewrites is too large; None if it may go on.

    Args:
        statistics: by prompt set, of the shards counted so far.
        max_failed_share: `rewrite.max_failed_share`.
        shards: shards of the data.
        shards_counted: the ones among them that `statistics` counts.
    """
    rows = max((counts.captions for counts in statistics.values()), default=0)
    if rows < LEAST_ROWS or shards_counted < min(LEAST_SHARDS, shards):
        return None
    slots, unfilled = _slots(statistics)
    failed = Counter({reason: count for reason, count in unfilled.items() if reason in FAILURES})
    if failed.total() <= max_failed_share * slots:
        return None
    return ShortfallError(
        f"{failed.total() / slots:.1%} of the rewrites of {rows:,} rows have no whole text, and "
        f"rewrite.max_failed_share allows {max_failed_share:.1%}: {_listed(failed)}. {_advice(failed)}. To accept this "
        "share, raise rewrite.max_failed_share"
    )


def nothing_accepted_error(statistics: Mapping[str, Statistics]) -> ShortfallError | None:
    """The error that ends a run with rows but without an accepted rewrite."""
    slots, unfilled = _slots(statistics)
    if not slots or unfilled.total() < slots:
        return None
    return ShortfallError(f"no rewrite was accepted: {_listed(unfilled)}. {_advice(unfilled)}")


def few_accepted_warning(statistics: Mapping[str, Statistics]) -> str | None:
    """A line about the sets with fewer than half of their rewrites accepted; None without such a set."""
    poor = []
    for name, counts in statistics.items():
        slots = counts.accepted + counts.unfilled.total()
        if counts.accepted < _WARNING_SHARE * slots:
            ((reason, count),) = counts.unfilled.most_common(1)
            poor.append(f"{name} {counts.accepted / slots:.0%} (most others are {reason}: {count:,})")
    if not poor:
        return None
    return (
        f"under half of the rewrites were accepted: {', '.join(poor)}; `laclip rewrites inspect CONFIG` shows examples "
        "by reason"
    )


def _slots(statistics: Mapping[str, Statistics]) -> tuple[int, Counter[str]]:
    """The number of slots, and the slots without an accepted rewrite by reason."""
    unfilled: Counter[str] = Counter()
    accepted = 0
    for counts in statistics.values():
        unfilled.update(counts.unfilled)
        accepted += counts.accepted
    return accepted + unfilled.total(), unfilled


def _listed(reasons: Counter[str]) -> str:
    listed = [f"{reason} {count:,}" for reason, count in reasons.most_common(_REASONS_SHOWN)]
    rest = reasons.total() - sum(count for _, count in reasons.most_common(_REASONS_SHOWN))
    return ", ".join(listed) + (f" and {rest:,} for other reasons" if rest else "")


def _advice(reasons: Counter[str]) -> str:
    """What to do about the most frequent reason, as sentences without a full stop at the end."""
    ((reason, _),) = reasons.most_common(1)
    if reason in NO_CAPTION or reason == tables.NOTHING_TO_REWRITE:
        first = "Check data.caption_column and the data's files"
    elif reason == tables.CAPTION_TOO_LONG:
        first = "Check data.caption_column, or raise rewrite.max_caption_characters"
    elif reason == tables.PROMPT_TOO_LONG:
        first = "Raise rewrite.engine.args.max_model_len"
    elif reason == Rejection.TRUNCATED:
        first = "Raise rewrite.sampling.max_tokens, or use another rewrite.model, rewrite.mode or template"
    elif reason in FAILURES:
        first = "Look at the warnings above, and check rewrite.model and rewrite.engine"
    else:
        first = "Use another rewrite.model, rewrite.mode or rewrite.gate"
    advice = f"{first}. `laclip rewrites inspect CONFIG` shows examples by reason"
    if reason in RETRYABLE and reason != tables.NOTHING_TO_REWRITE:
        advice += f", and `laclip rewrites retry CONFIG --reason {reason}` draws these rewrites again"
    return advice
