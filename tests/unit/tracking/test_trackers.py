"""Trackers get every step once and in order; one that fails or hangs is reported once, and stops nothing."""

import logging
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray import redaction
from laclip_ray.tracking import trackers as trackers_module
from laclip_ray.tracking.tracker import Outcome, Table
from tests.cases import case
from tests.unit.tracking.recording import RUN, Recorder, begun

AWAY = "cannot be written, and the run continues without it: OSError: the tracker is away"


def test_each_tracker_gets_the_run_its_steps_and_its_end() -> None:
    one, two = Recorder(), Recorder()
    trackers = begun(one=one, two=two)
    for step in (1, 2):
        trackers.scalars(step, {"loss": 1 / step})
    trackers.summary({"top1": 0.5})
    trackers.flush()
    trackers.end(Outcome.FINISHED)
    assert one.calls == two.calls
    assert one.calls == [
        ("begin", RUN),
        *[("scalars", 1, {"loss": 1.0}), ("scalars", 2, {"loss": 0.5})],
        *[("summary", {"top1": 0.5}), ("flush",), ("end", Outcome.FINISHED)],
    ]


@given(last_step=st.integers(0, 12), from_step=st.integers(0, 12), more=st.integers(0, 5))
def test_a_resumed_run_has_each_step_once_wherever_the_tracker_and_the_checkpoint_stopped(
    last_step: int, from_step: int, more: int
) -> None:
    recorder = Recorder(last_step=last_step)
    trackers = begun(one=recorder)
    trackers.catch_up([(step, {}) for step in range(1, from_step + 1)])
    for step in range(from_step + 1, from_step + 1 + more):
        trackers.scalars(step, {})
    trackers.end(Outcome.FINISHED)
    assert [*range(1, last_step + 1), *recorder.steps] == [*range(1, max(last_step, from_step + more) + 1)]


@pytest.mark.parametrize("call", ["begin", "scalars", "table", "summary", "flush", "end"])
@case("Identity", "a tracker that fails while the run goes on", "one warning; the run and other trackers continue")
def test_a_tracker_that_fails_is_reported_once_and_the_others_get_everything(
    call: str, caplog: pytest.LogCaptureFixture
) -> None:
    failing, sound = Recorder(fails_at=frozenset({call})), Recorder()
    trackers = begun(failing=failing, sound=sound)
    for step in (1, 2, 3):
        trackers.scalars(step, {"loss": 0.5})
        trackers.table(lambda: Table("samples", ["caption"], [["a cat"]]))
        trackers.summary({})
        trackers.flush()
    trackers.end(Outcome.FINISHED)
    assert caplog.text.count(AWAY) == 1
    assert caplog.text.count("failing") == 1
    assert sound.names == ["begin", *("scalars", "table", "summary", "flush") * 3, "end"]


def test_a_tracker_that_comes_back_gets_later_steps() -> None:
    recorder = Recorder(fails_at=frozenset({"scalars 2"}))
    trackers = begun(one=recorder)
    for step in (1, 2, 3):
        trackers.scalars(step, {})
    trackers.end(Outcome.FINISHED)
    assert recorder.steps == [1, 2, 3]
    assert recorder.names[-1] == "end"


def test_a_tracker_that_did_not_begin_is_not_called_again() -> None:
    recorder = Recorder(fails_at=frozenset({"begin"}))
    trackers = begun(one=recorder)
    trackers.scalars(1, {})
    trackers.end(Outcome.FINISHED)
    assert recorder.names == ["begin"]


@pytest.fixture
def released() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_a_tracker_that_hangs_delays_no_call_and_the_end_for_a_limited_time(
    released: threading.Event, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(trackers_module._END_TIMEOUT_S, Outcome.FINISHED, 0.2)
    monkeypatch.setattr(trackers_module, "_MOST_CALLS", 50)
    sound = Recorder()
    trackers = begun(hanging=Recorder(blocks_until=released), sound=sound)
    for step in range(1, 41):
        trackers.scalars(step, {})
    time.sleep(0.1)  # the sound tracker's queue is as short
    for step in range(41, 81):
        trackers.scalars(step, {})
    trackers.end(Outcome.FINISHED)
    assert sound.steps == [*range(1, 81)]
    reports = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert reports == ["hanging cannot be written, and the run continues without it: 50 calls wait for it"]


def test_a_table_is_made_once_for_all_trackers_and_holds_no_secret() -> None:
    redaction.register_secrets({"hub_token": "hf_not_for_others"})
    made = []

    def make() -> Table:
        made.append(1)
        return Table("samples", ["caption", "score"], [["seen at hf_not_for_others", 0.5]])

    recorders = {name: Recorder() for name in ("one", "two", "three")}
    trackers = begun(**recorders)
    trackers.table(make)
    trackers.end(Outcome.FINISHED)
    assert made == [1]
    for recorder in recorders.values():
        assert recorder.calls[1] == ("table", Table("samples", ["caption", "score"], [["seen at ***", 0.5]]))


def test_a_table_for_the_first_start_is_left_out_where_a_tracker_has_steps() -> None:
    new, resumed = Recorder(), Recorder(last_step=4)
    trackers = begun(new=new, resumed=resumed)
    trackers.table(lambda: Table("samples", ["caption"], [["a cat"]]), only_first=True)
    trackers.end(Outcome.FINISHED)
    assert "table" in new.names
    assert "table" not in resumed.names


def test_a_table_that_cannot_be_made_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    def make() -> Table:
        raise OSError("damaged")

    one, two = Recorder(), Recorder()
    trackers = begun(one=one, two=two)
    trackers.table(make)
    trackers.scalars(1, {})
    trackers.end(Outcome.FINISHED)
    assert one.names == two.names == ["begin", "scalars", "end"]
    assert caplog.text.count("a table for trackers cannot be made") == 1
