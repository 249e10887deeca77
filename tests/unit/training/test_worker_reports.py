"""The run's totals are sums over all workers, and a step whose loss is not finite is named."""

from collections import Counter

import pytest
import torch

from laclip_ray.data.consumption import Consumption
from laclip_ray.data.schedule import Position
from laclip_ray.data.text_choice import ShownText
from laclip_ray.tally import Tally
from laclip_ray.training.checkpoint import TrainingState
from laclip_ray.training.worker_reports import NonFinite, Window, WorkerReport, merge_reports


def report_of(
    counts: dict[int, int],
    skipped: int = 0,
    skipped_batches: int = 0,
    is_save_due: bool = False,
    non_finite: NonFinite | None = None,
) -> WorkerReport:
    """A report on one epoch, with samples by `ShownText`; its loss is their number."""
    tally = Tally(Counter(image_unreadable=skipped), {"image_unreadable": ["a"]}) if skipped else Tally()
    loss = float(sum(counts.values()))
    return WorkerReport({0: Counter(counts)}, {0: 0.5 * loss}, tally, skipped_batches, loss, non_finite, is_save_due)


def test_totals_are_the_state_at_the_start_and_the_reports_of_all_workers() -> None:
    start = TrainingState(
        step=4,
        samples=2,
        shown_counts={0: {ShownText.CAPTION: 2}},
        requested_p={0: 0.25},
        skipped=Tally(Counter(image_unreadable=2)),
        skipped_batches=3,
    )
    reports = [report_of({ShownText.REWRITE: 3}, skipped_batches=1), report_of({ShownText.CAPTION: 1}, skipped=1)]
    total = merge_reports(start, reports, 8)
    assert total.state.shown_counts == {0: {ShownText.CAPTION: 3, ShownText.REWRITE: 3}}
    assert total.state.requested_p == {0: 0.25 + 1.5 + 0.5}
    assert (total.state.step, total.state.samples, total.state.skipped_batches) == (8, 6, 4)
    assert total.state.skipped.counts == {"image_unreadable": 3}
    assert total.state.skipped.names == {"image_unreadable": ["a"]}
    assert total.loss == 2.0
    assert start.skipped.counts == {"image_unreadable": 2}, "the start stays as it was"


def test_a_window_reports_what_its_worker_consumed() -> None:
    consumption = Consumption(Position(), 1, {0: Counter({ShownText.REWRITE: 3})}, {0: 2.5})
    consumption.skipped.add("image_unreadable", "a")
    report = Window(2).report(consumption, is_save_due=True)
    assert report.shown_counts == {0: {ShownText.REWRITE: 3}}
    assert report.requested_p == {0: 2.5}
    assert report.skipped.counts == {"image_unreadable": 1}
    assert (report.loss, report.non_finite, report.is_save_due) == (None, None, True)


def test_the_first_worker_decides_on_a_checkpoint() -> None:
    for is_due in (True, False):
        reports = [report_of({}, is_save_due=is_due), report_of({}, is_save_due=not is_due)]
        assert merge_reports(TrainingState(), reports, 1).is_save_due == is_due


@pytest.mark.parametrize(("step", "ids"), [(7, ["b", "x", "y"]), (6, ["b"]), (8, ["x", "y"])])
def test_the_first_non_finite_step_has_the_ids_of_all_workers(step: int, ids: list[str]) -> None:
    reports = [
        report_of({}, non_finite=NonFinite(step, ["b"])),
        report_of({}, non_finite=NonFinite(7, ["x", "y"])),
        report_of({}),
    ]
    assert merge_reports(TrainingState(), reports, 9).non_finite == NonFinite(min(step, 7), ids)


def test_a_window_names_its_first_non_finite_loss() -> None:
    window = Window(2)
    assert window.non_finite_step() is None
    for step, loss in enumerate([1.0, float("nan"), float("inf")], start=1):
        window.add(step, torch.tensor(loss), True, [f"a{step}", f"b{step}"])
    assert window.non_finite_step() == NonFinite(2, ["a2", "b2"])


def test_a_skipped_batch_is_counted_but_not_averaged() -> None:
    window = Window(2)
    window.add(1, torch.tensor(2.0), True, ["a"])
    window.add(2, torch.tensor(float("nan")), False, ["b"])
    assert window.skipped_batches == 1
    assert window.non_finite_step() is None
    assert window.mean_since_save() == 2.0
    assert window.mean_since_save() is None


def test_twenty_skipped_batches_in_a_row_count_as_a_non_finite_step() -> None:
    window = Window(2)
    for step in range(1, 21):
        assert window.non_finite_step() is None
        window.add(step, torch.tensor(float("nan")), False, [f"a{step}"])
    assert window.non_finite_step() == NonFinite(1, ["a1"])
    window.add(21, torch.tensor(1.0), True, ["b"])
    assert window.non_finite_step() is None


def test_a_log_line_starts_a_new_window() -> None:
    window = Window(2)
    for step, _ in enumerate(window.timed(range(3)), start=1):
        window.add(step, torch.tensor(2.0), True, ["a", "b"])
    speed = window.close()
    assert speed["images_per_s"] > 0
    assert 0 <= speed["waiting_share"] <= 1
    assert not window.has_steps
    assert window.close()["images_per_s"] == 0.0
