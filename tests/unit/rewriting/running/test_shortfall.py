"""Rewriting that yields little: a warning, an incomplete run, or an early end, always for a named reason."""

from collections import Counter

import pytest

from laclip_ray.data.records import CAPTION_MISSING, NO_CAPTION
from laclip_ray.rewriting import tables
from laclip_ray.rewriting.inspection import RETRYABLE
from laclip_ray.rewriting.judging.gate import Rejection
from laclip_ray.rewriting.running.shortfall import (
    FAILURES,
    LEAST_ROWS,
    LEAST_SHARDS,
    failed_share_error,
    few_accepted_warning,
    nothing_accepted_error,
)
from laclip_ray.rewriting.storing.statistics import Statistics
from tests.cases import case


def counts(accepted: int, **unfilled: int) -> Statistics:
    """Counts of rows with one slot each."""
    return Statistics(accepted + sum(unfilled.values()), accepted, unfilled=Counter(unfilled))


def share_error(*sets: Statistics, limit: float = 0.5, shards: int = 9, counted: int = 9) -> str | None:
    error = failed_share_error({str(number): each for number, each in enumerate(sets)}, limit, shards, counted)
    return str(error) if error is not None else None


def test_a_text_refused_for_its_content_is_no_failure() -> None:
    assert {*FAILURES} >= {*NO_CAPTION, *tables.FAILED_REQUESTS, tables.CAPTION_TOO_LONG, tables.GATE_FAILED}
    assert {*FAILURES} & {*Rejection} == {Rejection.EMPTY, Rejection.TRUNCATED, Rejection.NOTHING_TO_REWRITE}


@pytest.mark.parametrize("reason", sorted(FAILURES))
def test_a_share_of_failures_above_the_limit_is_an_error_and_at_the_limit_none(reason: str) -> None:
    assert share_error(counts(500, **{reason: 500})) is None
    message = share_error(counts(499, **{reason: 501}))
    assert message is not None
    assert message.startswith("50.1% of the rewrites of 1,000 rows have no whole text")
    assert f"rewrite.max_failed_share allows 50.0%: {reason} 501" in message
    assert message.endswith("To accept this share, raise rewrite.max_failed_share")
    is_retried = reason in RETRYABLE and reason != tables.NOTHING_TO_REWRITE  # with these settings
    assert (f"rewrites retry CONFIG --reason {reason}" in message) == is_retried
    assert "the same command continues" not in message


def test_refused_texts_are_part_of_the_share_but_no_failures() -> None:
    assert share_error(counts(0, unrelated=5_000)) is None
    assert share_error(counts(0, unrelated=2_000, truncated=2_001)) is not None


def test_few_rows_or_few_shards_are_no_reason_to_stop() -> None:
    bad = counts(0, caption_missing=LEAST_ROWS)
    assert share_error(counts(0, caption_missing=LEAST_ROWS - 1)) is None
    assert share_error(bad, counted=LEAST_SHARDS - 1) is None
    assert share_error(bad, counted=LEAST_SHARDS) is not None
    assert share_error(bad, shards=1, counted=1) is not None


def test_the_share_is_of_all_sets_together_and_rows_count_once() -> None:
    assert share_error(counts(0, truncated=1_000), counts(1_000)) is None
    assert share_error(counts(0, truncated=1_001), counts(1_000)) is not None
    assert share_error(counts(0, truncated=600), counts(0, truncated=600)) is None


@pytest.mark.parametrize(("limit", "failed", "stops"), [(1.0, 2_000, False), (0.0, 1, True), (0.9, 1_801, True)])
def test_the_setting_decides(limit: float, failed: int, stops: bool) -> None:
    assert (share_error(counts(2_000 - failed, empty=failed), limit=limit) is not None) == stops


@case(
    "Reading data",
    "rows without any accepted rewrite",
    "the run is incomplete: no rewrite was accepted, by reason",
    exit_code=3,
    counted_as="the gate's reasons",
)
def test_no_accepted_rewrite_is_an_error_that_names_the_reasons_and_a_remedy() -> None:
    error = nothing_accepted_error({"cleaned": counts(0, unrelated=30, too_short=2), "crowd": counts(0, unrelated=1)})
    assert error is not None
    assert error.exit_code == 3
    message = str(error)
    assert message.startswith("no rewrite was accepted: unrelated 31, too_short 2. Use another rewrite.model")
    assert "`laclip rewrites inspect CONFIG`" in message
    assert "`laclip rewrites retry CONFIG --reason unrelated`" in message
    assert "the same command continues" not in message


def test_data_without_captions_is_named_as_the_cause() -> None:
    error = nothing_accepted_error({"cleaned": counts(0, **{CAPTION_MISSING: 3})})
    assert "Check data.caption_column" in str(error)
    assert "retry" not in str(error)


def test_one_accepted_rewrite_or_no_row_is_no_error() -> None:
    assert nothing_accepted_error({"cleaned": counts(0, unrelated=9), "crowd": counts(1)}) is None
    assert nothing_accepted_error({"cleaned": Statistics()}) is None


@case(
    "Configs and secrets",
    "a model whose rewrites are mostly refused (under half accepted)",
    "one warning at the end: the share, the most frequent reason, and the command that shows examples",
    exit_code=0,
    counted_as="the gate's reasons",
)
def test_a_set_with_under_half_accepted_gets_a_warning_with_the_commonest_reason() -> None:
    sets = {"cleaned": counts(49, unrelated=40, too_short=11), "crowd": counts(50, unrelated=50), "vivid": counts(1)}
    assert few_accepted_warning(sets) == (
        "under half of the rewrites were accepted: cleaned 49% (most others are unrelated: 40); `laclip rewrites "
        "inspect CONFIG` shows examples by reason"
    )
    assert few_accepted_warning({"crowd": sets["crowd"], "none": Statistics()}) is None
