"""What stands at the top of a report."""

from collections import Counter
from typing import Any

import pytest

from laclip_ray.rewriting.storing.statistics import Statistics
from laclip_ray.run_report.facts import RewritingFacts, RunFacts, SetFacts, TrainingFacts
from laclip_ray.run_report.warnings import warnings_of
from laclip_ray.status.outputs import OutputStatus
from tests.unit.run_report.stored_runs import line

STATUS = OutputStatus("out", None, None, None, None, ())


def trained(**changes: Any) -> RunFacts:
    """A run whose last line of metrics has these values."""
    return RunFacts("run", STATUS, {}, training=TrainingFacts([line(3, 0.5, **changes)], True, {}))


def test_a_good_run_has_no_warning() -> None:
    assert warnings_of(trained()) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"p_effective": 0.2, "fallbacks": {"no_accepted_rewrite": 9}}, "no accepted rewrite 9"),
        ({"skipped": {"image_missing": 200}}, "image missing 200"),
        ({"skipped_batches": 3}, "3 batches were skipped"),
    ],
)
def test_what_a_run_could_not_do_is_said_with_its_reasons(changes: dict[str, Any], expected: str) -> None:
    (warning,) = warnings_of(trained(**changes))
    assert expected in warning


def test_samples_held_out_for_evaluation_are_no_fault() -> None:
    assert warnings_of(trained(skipped={"held_out": 200})) == []


def test_a_gate_that_refuses_most_rewrites_is_named_with_its_most_frequent_reason() -> None:
    counts = Statistics(captions=10, accepted=2, unfilled=Counter(looping=5, too_short=3))
    of_set = SetFacts("cleaned", "out/rewrites/cleaned", "gate", 1, counts, 1, {})
    facts = RewritingFacts([of_set], [], 1, {}, {}, {}, {})
    (warning,) = warnings_of(RunFacts("run", STATUS, {}, rewriting=facts))
    assert warning == "cleaned: only 20% of the rewrites were accepted; the most frequent reason is looping (5)."


def test_secrets_in_file_names_are_left_out() -> None:
    (warning,) = warnings_of(RunFacts("run", STATUS, {}, problems=["https://me:password@host/file is damaged"]))
    assert "password" not in warning
