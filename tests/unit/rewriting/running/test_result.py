"""An incomplete run names what is missing, why, and what the same command does about it."""

from collections import Counter

import pytest

from laclip_ray.endings.causes import describe
from laclip_ray.rewriting import tables
from laclip_ray.rewriting.engines.engine import EngineStartError
from laclip_ray.rewriting.running.result import BudgetReachedError, RewritingResult, StoppedError, find_incomplete
from laclip_ray.rewriting.running.shortfall import ShortfallError
from laclip_ray.rewriting.storing.statistics import Statistics


def message_of(result: RewritingResult, error: Exception | None = None) -> str:
    incomplete = find_incomplete(result, error, "out/summary.json")
    assert incomplete is not None
    assert incomplete.__cause__ is error
    return str(incomplete)


def test_a_complete_run_is_no_error() -> None:
    assert find_incomplete(RewritingResult({"crowd": Statistics(2, 2)}, shards=1), None, "out/summary.json") is None


def test_the_first_missing_units_are_named_with_their_reasons_and_the_file_has_the_rest() -> None:
    missing = {f"crowd/{number:02}.tar": "not done" for number in range(23)}
    lines = message_of(
        RewritingResult({"crowd": Statistics(), "cleaned": Statistics()}, shards=30, missing=missing)
    ).split("\n")
    assert lines[0] == (
        "rewriting is incomplete: 23 of 60 (prompt set / shard) are not committed; the same command tries them again, "
        "and ends in the same way while their reasons last"
    )
    assert lines[1:21] == [f"  crowd/{number:02}.tar: not done" for number in range(20)]
    assert lines[21:] == ["  and 3 more, in out/summary.json"]


@pytest.mark.parametrize(
    ("error", "continuation"),
    [
        (BudgetReachedError("the budget of 1 is spent"), "the same command continues with a larger rewrite.budget"),
        (ShortfallError("no rewrite was accepted"), "the same command ends in the same way"),
        (EngineStartError("no memory"), "the same command continues once the engine starts"),
        (StoppedError("stopped"), "the same command continues"),
        (ValueError("a bug"), "the same command"),
    ],
)
def test_what_the_same_command_does_depends_on_why_the_run_stopped(error: Exception, continuation: str) -> None:
    result = RewritingResult({"crowd": Statistics()}, shards=1, missing={"crowd/0.tar": "not done"})
    first, unit, cause = message_of(result, error).split("\n")
    assert f"1 of 1 (prompt set / shard) are not committed; {continuation}" in first
    assert unit == "  crowd/0.tar: not done"
    assert cause == f"the run was stopped by: {describe(error)}"


def test_captions_that_killed_their_engines_are_named_with_the_command_that_retries_them() -> None:
    statistics = Statistics(3, 1, unfilled=Counter({tables.ENGINE_DIED: 2}), named={tables.ENGINE_DIED: ["a", "b"]})
    assert message_of(RewritingResult({"crowd": statistics}, shards=1)) == (
        "2 rewrites are missing because their captions killed their engines: a, b. Everything else is committed; "
        "`laclip rewrites retry CONFIG --reason engine_died` tries them again"
    )
