"""Linear probes choose C as a full grid does, equal scikit-learn's at that C, and say what a reader must know."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]

from laclip_ray.config.evaluation import LinearProbeConfig
from laclip_ray.evaluation.coverage import NoResultError
from laclip_ray.evaluation.protocols import linear_probe as module
from laclip_ray.evaluation.protocols.features import Features, split_validation
from laclip_ray.evaluation.protocols.lgssl import COARSE
from laclip_ray.evaluation.protocols.linear_probe import C_VALUES, Choice, Probe, choose_c, linear_probe, standardised
from laclip_ray.evaluation.protocols.progress import Progress
from tests.cases import case
from tests.unit.evaluation.protocols.mixtures import labelled_as, mixture, several_labels, shuffled, skewed

pytestmark = pytest.mark.usefixtures("_every_fourth_c")

STANDARD, LGSSL = LinearProbeConfig(), LinearProbeConfig(protocol="lgssl")
TRAIN, VAL, TEST = (mixture(split, 6, noise=2.0) for split in ("train", "val", "test"))


@pytest.fixture
def _every_fourth_c(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Search one value of C a decade, which takes less time, but where the grid is the matter."""
    if "full_grid" not in request.node.name:
        monkeypatch.setattr(module, "C_VALUES", C_VALUES[::4])


def test_c_has_45_values_from_small_to_large() -> None:
    assert len(C_VALUES) == 45
    assert [C_VALUES[0], C_VALUES[-1]] == pytest.approx([1e-5, 1e6])
    assert np.allclose(np.diff(np.log10(C_VALUES)), 0.25)


def test_the_search_chooses_as_a_full_grid_of_probes_from_zero() -> None:
    scale = standardised(TRAIN.values)
    choice = choose_c(TRAIN, VAL, scale)
    grid = {c: Probe.fitted(TRAIN, scale, c).measured(VAL).metrics["top1"] for c in C_VALUES}
    best = max(grid, key=grid.__getitem__)
    assert (choice.c, choice.score) == (best, grid[best])


def test_predictions_equal_scikit_learns_at_the_same_c() -> None:
    measured = linear_probe(TRAIN, VAL, TEST, STANDARD, 0)
    scaler = StandardScaler().fit(TRAIN.values.astype(np.float64))
    both = TRAIN.joined(VAL)
    peer = LogisticRegression(C=measured.metrics["c"], max_iter=1_000, tol=1e-8)
    peer.fit(scaler.transform(both.values), both.labels)
    hits = peer.predict(scaler.transform(TEST.values)) == TEST.labels
    assert measured.hits is not None
    assert measured.hits.tolist() == hits.tolist()
    assert measured.metrics["top1"] == pytest.approx(hits.mean())


@pytest.mark.parametrize("c", [1e-4, 1.0, 1e3, 1e6])
def test_a_probe_of_few_separable_images_is_scikit_learns(c: float) -> None:
    train, test = skewed("train"), skewed("test", images=100)
    scaler = StandardScaler().fit(train.values.astype(np.float64))
    peer = LogisticRegression(C=c, solver="newton-cg", tol=1e-10, max_iter=10_000)
    peer.fit(scaler.transform(train.values.astype(np.float64)), train.labels)
    probe = Probe.fitted(train, standardised(train.values), c)
    np.testing.assert_allclose(probe.classifier.weights.T, peer.coef_, atol=1e-3 * np.abs(peer.coef_).max())
    theirs = float((peer.predict(scaler.transform(test.values.astype(np.float64))) == test.labels).mean())
    assert probe.measured(test).metrics["top1"] == pytest.approx(theirs, abs=1e-3)


def test_every_fit_of_few_separable_images_ends_after_few_steps_on_the_full_grid() -> None:
    train = skewed("train")
    found = list(module._Problem.of(train, standardised(train.values)).path(C_VALUES))
    assert all(classifier.converged for classifier in found)
    assert sum(classifier.iterations for classifier in found) < 5 * len(C_VALUES)


@pytest.mark.parametrize("config", [STANDARD, LGSSL])
def test_a_long_search_says_which_value_of_c_it_is_at(
    config: LinearProbeConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("laclip_ray.evaluation.protocols.progress.LOG_EVERY_S", 0.0)
    caplog.set_level(logging.INFO)
    linear_probe(TRAIN, VAL, TEST, config, 0, progress=Progress("linear-probe, pets"))
    count = 12 if config == STANDARD else 19
    assert caplog.messages[1].startswith(f"linear-probe, pets: value 2 of {count} of C; about ")


def test_hits_follow_the_order_of_the_test_images() -> None:
    reordered = shuffled(TEST)
    hits, others = (linear_probe(TRAIN, VAL, test, STANDARD, 0).hits for test in (TEST, reordered))
    assert hits is not None
    assert others is not None
    assert dict(zip(TEST.ids, hits, strict=True)) == dict(zip(reordered.ids, others, strict=True))


def test_metrics_are_ready_for_json_and_count_images() -> None:
    metrics = linear_probe(TRAIN, None, TEST, STANDARD, 0).metrics
    assert json.loads(json.dumps(metrics)) == metrics
    assert (metrics["train_images"], metrics["val_images"], metrics["images"], metrics["classes"]) == (120, 24, 120, 6)
    assert {"top1", "top5", "mean_per_class", "val_top1", "converged"} <= metrics.keys()
    with_val = linear_probe(TRAIN, VAL, TEST, STANDARD, 0).metrics
    assert (with_val["train_images"], with_val["val_images"]) == (240, 120)


def test_without_validation_a_fifth_of_train_chooses_c() -> None:
    scale = standardised(TRAIN.values)
    choice = choose_c(*split_validation(TRAIN, 7), scale)
    assert linear_probe(TRAIN, None, TEST, STANDARD, 7).metrics["c"] == choice.c


def test_the_metric_that_chooses_c_is_named() -> None:
    metrics = linear_probe(TRAIN, VAL, TEST, STANDARD, 0, "mean_per_class").metrics
    assert "val_mean_per_class" in metrics


def test_a_shift_and_stretch_of_the_features_does_not_change_the_standard_probe() -> None:
    train, val, test = (
        Features(split.ids, split.values * np.float32(64) + np.float32(512), split.labels)
        for split in (TRAIN, VAL, TEST)
    )
    stretched, plain = linear_probe(train, val, test, STANDARD, 0), linear_probe(TRAIN, VAL, TEST, STANDARD, 0)
    assert stretched.metrics["c"] == plain.metrics["c"]
    assert stretched.metrics["top1"] == pytest.approx(plain.metrics["top1"], abs=0.01)


def test_nothing_is_learned_from_a_dimension_that_is_constant_in_train() -> None:
    values = np.concatenate([TRAIN.values, np.full((len(TRAIN), 1), 3, np.float32)], axis=1)
    scaled = standardised(values)(values)
    assert not scaled[:, -1].any()
    probe = Probe.fitted(Features(TRAIN.ids, values, TRAIN.labels), standardised(values), 1.0)
    assert not probe.classifier.weights[-1].any()


def test_standardised_features_have_mean_zero_and_deviation_one() -> None:
    scaled = standardised(TRAIN.values)(TRAIN.values)
    torch.testing.assert_close(scaled.mean(dim=0), torch.zeros(8, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(scaled.std(dim=0, correction=0), torch.ones(8, dtype=torch.float64))


def test_lgssl_takes_raw_features_and_the_norm() -> None:
    metrics = linear_probe(TRAIN, VAL, TEST, LGSSL, 0).metrics
    assert metrics["protocol"] == "lgssl"
    probe = Probe.fitted(TRAIN.joined(VAL), lambda values: torch.from_numpy(values).double(), metrics["c"], "norm")
    assert probe.measured(TEST).metrics["top1"] == metrics["top1"]


@pytest.mark.parametrize("config", [STANDARD, LGSSL])
def test_several_labels_are_measured_by_mean_average_precision(config: LinearProbeConfig) -> None:
    train, val, test = (several_labels(split, 4) for split in (TRAIN, VAL, TEST))
    measured = linear_probe(train, val, test, config, 0)
    assert measured.metrics["map"] > 0.9  # labels are linear in the features
    assert measured.metrics["val_map"] > 0.9
    assert measured.hits is None
    assert measured.scores is not None
    assert measured.scores.shape == (120, 4)


def test_a_label_without_training_images_is_said() -> None:
    train, test = (
        replace(several_labels(split, 4), class_names=["fox", "owl", "hare", "cat"]) for split in (TRAIN, TEST)
    )
    train.labels[:, 2] = False
    metrics = linear_probe(train, None, test, STANDARD, 0).metrics
    assert metrics["classes"] == 3
    assert metrics["notes"][0] == (
        "1 of 4 classes have all or none of the training images, so their average precision is the share of their test "
        "images: class 2 ('hare')."
    )


def test_a_class_without_training_images_is_wrong_and_said() -> None:
    few = TRAIN.take(np.flatnonzero(TRAIN.labels != 4))
    measured = linear_probe(few, None, replace(TEST, class_names=[f"kind {n}" for n in range(6)]), STANDARD, 0)
    assert measured.hits is not None
    assert not measured.hits[TEST.labels == 4].any()
    assert measured.metrics["notes"][0].startswith("1 of the 6 classes of the test images have no training image")
    assert measured.metrics["notes"][0].endswith(": class 4 ('kind 4').")


@case("Evaluation", "a probe whose best C is the first or last value", "measured; a note says so")
def test_a_c_at_the_end_of_its_values_is_said() -> None:
    easy = [mixture(split, 3, noise=0.01) for split in ("train", "val", "test")]
    metrics = linear_probe(easy[0], easy[1], easy[2], STANDARD, 0).metrics
    assert metrics["c_at_end"] is True
    assert metrics["notes"] == [
        "The chosen C, 1e-05, is the smallest of the values searched; a smaller one may be better."
    ]
    assert "largest of the values searched; a larger" in Choice(COARSE[-1], 1.0, (COARSE[0], COARSE[-1])).notes()[0]
    assert Choice(1.0, 1.0, (COARSE[0], COARSE[-1])).notes() == []


def test_a_fit_that_does_not_converge_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("laclip_ray.evaluation.protocols.logistic_regression.MAX_ITERATIONS", 1)
    monkeypatch.setattr(module, "C_VALUES", (1e-5, 1.0, 1e6))
    metrics = linear_probe(TRAIN, VAL, TEST, STANDARD, 0).metrics
    assert metrics["converged"] is False
    assert any("did not converge" in note for note in metrics["notes"])


@case("Evaluation", "training images of a single class", "no result and no number", exit_code=3)
def test_a_single_class_is_no_result() -> None:
    one = replace(labelled_as(TRAIN, np.full(len(TRAIN), 3)), class_names=["", "", "", "owl"])
    with pytest.raises(NoResultError, match=r"^all 96 training images are of class 3 \('owl'\), so there is nothing"):
        linear_probe(one, None, TEST, STANDARD, 0)
    none = labelled_as(TRAIN, np.zeros((len(TRAIN), 2), bool))
    with pytest.raises(NoResultError, match="every label belongs to all or to none"):
        linear_probe(none, None, several_labels(TEST, 2), STANDARD, 0)


@case("Evaluation", "one training image a class, and no validation split", "no result; give val_split", exit_code=3)
def test_no_image_to_choose_c_on_is_no_result() -> None:
    one_each = TRAIN.take(np.arange(0, 120, 20))
    with pytest.raises(NoResultError, match=r"^no class has two training images, .*give val_split"):
        linear_probe(one_each, None, TEST, STANDARD, 0)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_an_empty_split_is_no_result(split: str) -> None:
    empty = TRAIN.take(np.arange(0))
    splits = {"train": TRAIN, "validation": VAL, "test": TEST, split: empty}
    with pytest.raises(NoResultError, match=f"no {split} images"):
        linear_probe(splits["train"], splits["validation"], splits["test"], STANDARD, 0)


def test_unreadable_images_count_as_wrong() -> None:
    measured, without = (
        linear_probe(TRAIN, VAL, TEST, STANDARD, 0, unreadable=labels) for labels in (np.array([0, 5, 5]), None)
    )
    assert (measured.metrics["images"], measured.metrics["counted_wrong"]) == (120, 3)
    assert measured.metrics["top1"] == pytest.approx(without.metrics["top1"] * 120 / 123)
    assert measured.hits is not None
    assert len(measured.hits) == 123
