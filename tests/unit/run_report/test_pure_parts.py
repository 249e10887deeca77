"""Vocabularies, notes on losses, names of runs."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.run_report.facts import RunFacts, TrainingFacts
from laclip_ray.run_report.reading import Target
from laclip_ray.run_report.report import with_different_names
from laclip_ray.run_report.training_section import loss_notes
from laclip_ray.run_report.vocabulary import Vocabulary, thinned
from laclip_ray.status.outputs import Locations, OutputStatus
from tests.unit.run_report.stored_runs import line

TEXTS = st.lists(st.text(alphabet="ab c", max_size=8), max_size=80)


@given(TEXTS)
def test_a_vocabulary_grows_to_its_distinct_words(texts: list[str]) -> None:
    found = Vocabulary.of(texts)
    ends = [found.growth[0], found.growth[-1]]
    assert ends == [(0.0, 0.0), (float(found.words), float(found.distinct))]
    assert all(one[1] <= two[1] for one, two in zip(found.growth, found.growth[1:], strict=False))
    assert found.distinct_at(found.words) == pytest.approx(found.distinct)


@given(st.lists(st.tuples(st.integers(), st.integers())), st.integers(2, 20))
def test_a_thinned_curve_keeps_its_ends(points: list[tuple[float, float]], most: int) -> None:
    found = thinned(points, most)
    assert len(found) == min(len(points), most)
    assert not points or (found[0], found[-1]) == (points[0], points[-1])


def trained(name: str, p: float, **changes: Any) -> RunFacts:
    """A run that has trained with p."""
    status = OutputStatus(name, None, None, None, None, ())
    config = {"text": {"p": p}, "data": {"path": "d"}, "rewrite": {"model": "m"}}
    return RunFacts(name, status, config, training=TrainingFacts([line(3, p, **changes)], True, {}))


def test_losses_over_the_same_texts_can_be_compared() -> None:
    assert loss_notes([trained("a", 0.5), trained("b", 0.5)]) == []
    assert loss_notes([trained("a", 0.5)]) == []


def test_losses_over_other_texts_or_batches_cannot_be_compared() -> None:
    (note,) = loss_notes([trained("a", 0.0), trained("b", 0.5)])
    assert "different texts" in note
    (note,) = loss_notes([trained("a", 0.5), trained("b", 0.5, batch_size=50)])
    assert "batches differ" in note


def test_runs_of_one_name_get_names_that_differ() -> None:
    def names(*outputs: str) -> list[str]:
        targets = [Target(output.rpartition("/")[2], Locations(output, {})) for output in outputs]
        return [target.name for target in with_different_names(targets)]

    assert names("a/run", "b/run", "c/other") == ["a/run", "b/run", "other"]
    assert names("a/run", "a/run") == ["a/run", "a/run (2)"]
    assert names("s3://x/run") == ["run"]


def test_a_run_without_its_config_says_nothing_on_texts() -> None:
    first = replace(trained("a", 0.5), experiment={})
    assert loss_notes([first, replace(first, name="b")]) == []
