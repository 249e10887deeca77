import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from laclip_ray.config import GateConfig, MeaningGateConfig
from laclip_ray.errors import UserError
from laclip_ray.rewriting.judging.calibration import (
    LabelledRewrite,
    Quality,
    Thresholds,
    cross_validated,
    find_thresholds,
    read_labelled,
)
from laclip_ray.rewriting.scoring.gate_quality import measure_gate
from tests.unit.rewriting.meaning_fakes import FakeEncoders

Labels = tuple[NDArray[np.float32], NDArray[np.bool_]]


@st.composite
def labels(draw: st.DrawFn) -> Labels:
    count = draw(st.integers(1, 40))
    values = st.tuples(st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9]), st.sampled_from([0.0, 0.5, 1.0, 3.0]))
    scores = draw(st.lists(values, min_size=count, max_size=count))
    faithful = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    return np.array(scores, np.float32), np.array(faithful)


@given(labelled=labels(), precision=st.sampled_from([0.5, 0.8, 0.9, 1.0]))
def test_thresholds_have_the_wanted_precision_and_no_others_have_more_recall(
    labelled: Labels, precision: float
) -> None:
    scores, faithful = labelled
    weights = (0.0, 0.2, 0.5)
    found = find_thresholds(scores, faithful, precision, weights)
    best = 0
    for weight in weights:
        for threshold in np.unique(scores[:, 0].astype(float) - weight * scores[:, 1]):
            accepted = Thresholds(weight, float(threshold)).accept(scores)
            if accepted.any() and faithful[accepted].mean() >= precision:
                best = max(best, int(faithful[accepted].sum()))
    if found is None:
        assert best == 0
    else:
        accepted = found.accept(scores)
        assert faithful[accepted].mean() >= precision
        assert int(faithful[accepted].sum()) == best


@given(labelled=labels())
def test_a_held_out_verdict_does_not_see_its_own_label(labelled: Labels) -> None:
    scores, faithful = labelled
    keys = [str(row) for row in range(len(scores))]
    before = cross_validated(scores, faithful, 0.9, keys)
    flipped = faithful.copy()
    flipped[0] = not flipped[0]
    assume(len(scores) > 1)
    assert cross_validated(scores, flipped, 0.9, keys)[0] == before[0]


@given(labelled=labels())
def test_quality_counts_agreement(labelled: Labels) -> None:
    scores, faithful = labelled
    accepted = scores[:, 0] > 0.4
    quality = Quality.of(accepted, faithful)
    assert quality.precision.cases == quality.recall.cases == int((accepted & faithful).sum())
    assert (quality.precision.of, quality.recall.of) == (int(accepted.sum()), int(faithful.sum()))


def test_labels_are_read_by_their_keys(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    rows = [{"caption": "a", "rewrite": "b", "faithful": value, "model": "x"} for value in (True, False)]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    assert read_labelled(str(path)) == [LabelledRewrite("a", "b", True), LabelledRewrite("a", "b", False)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1: expected a JSON object"),
        ("[]", "line 1: expected a JSON object"),
        ('{"caption": "a", "rewrite": "b"}', "line 1: expected a JSON object"),
        ('{"caption": "a", "rewrite": "b", "faithful": 1}', "faithful must be true or false, got 1"),
        ('{"caption": 3, "rewrite": "b", "faithful": true}', "caption must be a text, got 3"),
    ],
)
def test_a_line_that_is_no_label_is_refused(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(line)
    with pytest.raises(UserError, match=message):
        read_labelled(str(path))


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(UserError, match="there is no such file"):
        read_labelled("memory://nowhere/labels.jsonl")


def test_a_file_of_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"^.*labels\.jsonl is not UTF-8; save it as UTF-8$"):
        read_labelled(str(tmp_path / "labels.jsonl"))


def test_labels_of_copies_alone_are_refused() -> None:
    copies = [LabelledRewrite("a red dog", "A red dog.", True)]
    message = "^all labelled rewrites are copies of their captions, so there is nothing to measure; label rewrites that"
    with pytest.raises(UserError, match=message):
        measure_gate(copies, GateConfig(meaning=None), 0.9, FakeEncoders())


def test_the_gate_is_measured_with_and_without_meaning() -> None:
    rewrites = [
        LabelledRewrite("a red dog runs", text, faithful)
        for text, faithful in [
            ("a red dog runs fast", True),
            ("the dog runs red", True),
            ("a dog with 7 blue houses", False),
            ("I'm sorry, but I can't", False),
        ]
    ]
    config = GateConfig(meaning=MeaningGateConfig(min_faithfulness=-10.0))
    quality = measure_gate(rewrites, config, 0.9, FakeEncoders())
    assert quality.rows["checks of the text alone"] == quality.rows["the whole gate, as configured"]
    assert quality.rows["checks of the text alone"].precision.share == pytest.approx(2 / 3)
    assert quality.found is not None
    assert quality.rows["with the thresholds found"].precision.share == 1
    assert quality.few == "2 faithful, 2 unfaithful"
