"""A run whose texts depend on a score is refused where no accepted rewrite has it."""

from pathlib import Path

import pyarrow as pa
import pytest

from laclip_ray.errors import UserError
from laclip_ray.rewriting.storing.score_checks import check_scores
from laclip_ray.rewriting.storing.sets import RewriteSets
from laclip_ray.rewriting.storing.store import RewriteSet, commit_verdicts, write_draws
from tests.cases import case
from tests.unit.rewriting.shards import DRAWS, ORIGIN, reasons_of, table_of

SCORES = {"text.p.by": "meaning"}


def sets_of(tmp_path: Path, scored: list[list[float | None]]) -> RewriteSets:
    """A set for each list of scores; the accepted draws are rows 0, 2 and 3."""
    sets = []
    for number, values in enumerate(scored):
        rewrite_set = RewriteSet(str(tmp_path / str(number)), "gate")
        table = table_of(DRAWS)
        write_draws(rewrite_set, "0.tar", 0, table, ORIGIN)
        scores = {"meaning": pa.array(values, pa.float32())}
        commit_verdicts(rewrite_set, "0.tar", 0, table, reasons_of(DRAWS), ORIGIN, scores, {"meaning": "x"})
        sets.append(rewrite_set)
    return RewriteSets(tuple(sets))


def check(rewrites: RewriteSets, scores: dict[str, str] = SCORES, shard: str = "0.tar") -> None:
    check_scores(scores, rewrites, rewrites.describe(), [shard])


@case(
    "Identity",
    "`text.p` by a score that no accepted rewrite of the sets has",
    "the key, the score, the sets, and what stores it",
    exit_code=2,
)
def test_a_score_that_no_accepted_rewrite_has_is_refused(tmp_path: Path) -> None:
    rewrites = sets_of(tmp_path, [[None] * 6, [None, 0.5, None, None, 0.5, None]])
    with pytest.raises(UserError, match=r"text\.p\.by: no accepted rewrite in .*0, .*1 has the score meaning\. Run"):
        check(rewrites)
    with pytest.raises(UserError, match=r"text\.choice\.by: .* score log_probability\. Only texts drawn by"):
        check(rewrites, {"text.choice.by": "log_probability"})


def test_rewrites_without_the_score_are_counted_in_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    check(sets_of(tmp_path, [[0.5] * 6, [0.5, None, None, 0.5, None, None]]))
    assert "1: 1 of 3 accepted rewrites have no score meaning" in caplog.text
    assert caplog.text.count("have no score") == 1


def test_sets_with_all_scores_pass_in_silence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    check(sets_of(tmp_path, [[0.5] * 6]))
    assert not caplog.text


def test_other_shards_and_other_runs_do_not_count(tmp_path: Path) -> None:
    rewrites = sets_of(tmp_path, [[None] * 6])
    check(rewrites, {})
    check(rewrites, SCORES, shard="other.tar")
