"""Every row is drawn once, at random, and the first batch comes early."""

from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.data.shuffle import shuffled
from laclip_ray.randomness import generator


def noted(sizes: Iterable[int], taken: list[int]) -> Iterator[int]:
    """The same sizes, each appended to `taken` on request."""
    for size in sizes:
        taken.append(size)
        yield size


def blocks_of(sizes: Iterable[int]) -> Iterator[dict[str, np.ndarray]]:
    start = 0
    for size in sizes:
        numbers = np.arange(start, start + size)
        pixels = np.repeat(numbers, 6).reshape(size, 2, 3).astype(np.uint8)
        yield {"number": numbers, "pixels": pixels, "id": np.array([f"s{number}" for number in numbers], object)}
        start += size


def batches_of(sizes: list[int], batch_size: int, buffer_rows: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
    return list(shuffled(blocks_of(sizes), batch_size, buffer_rows, generator("test", seed)))


@given(st.lists(st.integers(1, 40), max_size=12), st.integers(1, 20), st.integers(0, 60))
def test_every_row_is_drawn_once_except_an_incomplete_batch(sizes: list[int], batch_size: int, buffer: int) -> None:
    batches = batches_of(sizes, batch_size, buffer)
    assert all(len(batch["number"]) == batch_size for batch in batches)
    drawn = Counter(number for batch in batches for number in batch["number"].tolist())
    assert drawn.keys() <= set(range(sum(sizes)))
    assert set(drawn.values()) <= {1}
    assert len(batches) == sum(sizes) // batch_size


@given(st.lists(st.integers(1, 40), max_size=12), st.integers(1, 20), st.integers(0, 60))
def test_the_columns_of_a_row_stay_together(sizes: list[int], batch_size: int, buffer: int) -> None:
    for batch in batches_of(sizes, batch_size, buffer):
        for number, pixels, name in zip(batch["number"], batch["pixels"], batch["id"], strict=True):
            assert name == f"s{number}"
            assert (pixels == number % 256).all()


def test_the_batches_are_a_function_of_the_generator() -> None:
    first, again, other = (batches_of([100, 100], 10, 50, seed) for seed in (0, 0, 1))
    numbers = [[batch["number"].tolist() for batch in batches] for batches in (first, again, other)]
    assert numbers[0] == numbers[1] != numbers[2]


def test_the_first_batch_comes_when_an_eighth_of_the_buffer_is_filled() -> None:
    taken: list[int] = []
    next(shuffled(blocks_of(noted([10] * 100, taken)), 10, 400, generator("test")))
    assert len(taken) == 5  # the fifth block fills it to 50 rows


@given(st.integers(1, 60))
def test_the_buffer_grows_by_a_row_for_every_four_drawn(drawn_batches: int) -> None:
    taken: list[int] = []
    batches = shuffled(blocks_of(noted([10] * 1_000, taken)), 20, 400, generator("test"))
    for _ in range(drawn_batches):
        next(batches)
    held = min(400, 50 + 20 * (drawn_batches - 1) / 4)  # before the last draw
    assert held <= sum(taken) - 20 * (drawn_batches - 1) < held + 10


def test_a_full_buffer_mixes_rows_as_far_apart_as_it_is_long() -> None:
    batches = batches_of([50] * 200, 50, 2_000)
    middle = np.concatenate([batch["number"] for batch in batches[80:160]])
    spread = np.array([batch["number"].std() for batch in batches[80:160]])
    assert spread.mean() > 1_000  # 14 for rows in their original order
    assert len(set(middle.tolist())) == len(middle)


def test_a_batch_is_a_copy() -> None:
    first, *rest = batches_of([64], 8, 8)
    before = first["number"].copy()
    for batch in rest:
        batch["number"][:] = -1
    assert (first["number"] == before).all()
