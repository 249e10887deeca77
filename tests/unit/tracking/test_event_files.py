"""Event files appear whole where the output is, and a store gets few requests for them."""

import uuid
from pathlib import Path

import pytest

from laclip_ray import storage
from laclip_ray.tracking.event_files import EventFiles


def values_in(directory: Path) -> list[tuple[int, float]]:
    """(step, value) of the curve `loss`, as TensorBoard reads it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(directory))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars("loss")]


def copied(url: str, directory: Path) -> Path:
    for file in storage.list_files(url):
        (directory / storage.name_of(file)).write_bytes(storage.read_bytes(file))
    return directory


def test_events_of_a_directory_are_read_there(tmp_path: Path) -> None:
    events = EventFiles(str(tmp_path), 0)
    events.add("loss", 0.5, 1)
    events.flush()
    assert values_in(tmp_path) == [(1, 0.5)]
    events.close()


def test_events_at_a_url_are_put_there_by_a_flush(tmp_path: Path) -> None:
    url = f"memory://events-{uuid.uuid4().hex}"
    events = EventFiles(url, 0)
    events.add("loss", 0.5, 1)
    assert storage.list_files(url) == []
    events.flush()
    events.add("loss", 0.25, 2)
    events.close()
    assert values_in(copied(url, tmp_path)) == [(1, 0.5), (2, 0.25)]


def test_a_start_that_repeats_steps_replaces_them(tmp_path: Path) -> None:
    url = f"memory://events-{uuid.uuid4().hex}"
    for from_step, value in ((0, 0.5), (1, 0.125)):
        events = EventFiles(url, from_step)
        for step in range(from_step + 1, 4):
            events.add("loss", value, step)
        events.close()
    assert values_in(copied(url, tmp_path)) == [(1, 0.5), (2, 0.125), (3, 0.125)]


def test_numbers_cost_no_request_until_a_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(storage, "write_bytes", lambda url, content: written.append(url))
    events = EventFiles(f"memory://events-{uuid.uuid4().hex}", 0)
    for step in range(1_000):
        events.add("loss", 1.0, step)
    assert written == []
    events.close()
    assert len(written) == 1
