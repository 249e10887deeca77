"""Workers share the global batch evenly, and batches are made ahead of time, in order."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.config import TrainConfig
from laclip_ray.training.batches import made_ahead, worker_batch_size


@given(batch_size=st.integers(1, 20_000), world_size=st.integers(1, 200))
def test_workers_share_the_global_batch_or_the_next_smaller_one_that_divides(batch_size: int, world_size: int) -> None:
    if world_size > batch_size:
        return
    share = worker_batch_size(TrainConfig(batch_size=batch_size), world_size, "fast")
    assert batch_size - world_size < share * world_size <= batch_size
    exact = worker_batch_size(TrainConfig(batch_size=batch_size), world_size, "exact")
    assert batch_size - 32 * world_size < exact * world_size <= batch_size
    assert exact * world_size == batch_size or exact < 32 or exact % 32 == 0


def test_the_first_batch_is_made_before_it_is_requested_and_all_arrive_in_order() -> None:
    was_made = threading.Event()

    def batches() -> Iterator[dict[str, Any]]:
        was_made.set()
        yield from ({"number": number} for number in range(3))

    ahead = made_ahead(batches(), 2)
    assert was_made.wait(timeout=60)
    assert [batch["number"] for batch in ahead] == [0, 1, 2]


def test_a_stream_without_batches_ends_at_once() -> None:
    assert list(made_ahead(iter(()), 2)) == []


def test_an_error_in_the_stream_is_raised_at_the_request_for_the_batch() -> None:
    def fail(number: int) -> dict[str, Any]:
        raise OSError(f"storage is gone at {number}")

    ahead = made_ahead(map(fail, range(2)), 2)
    with pytest.raises(OSError, match="storage is gone at 0"):
        next(ahead)


def test_no_more_batches_are_made_ahead_than_requested() -> None:
    numbers: list[int] = []

    def batches() -> Iterator[dict[str, Any]]:
        for number in range(10):
            numbers.append(number)
            yield {"number": number}

    ahead = made_ahead(batches(), 2)
    assert next(ahead) == {"number": 0}
    threading.Event().wait(0.2)  # the thread would make the others in far less
    assert len(numbers) <= 4  # one taken, two in the queue, and one in the thread's hands
    assert [batch["number"] for batch in ahead] == list(range(1, 10))
