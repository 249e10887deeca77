"""Arrays are given again only when nobody can see them any more."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.data.reuse import ReusedArrays

BYTES = np.dtype(np.uint8)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), max_size=30))
def test_what_is_held_keeps_its_content(steps: list[tuple[bool, int]]) -> None:
    arrays, held = ReusedArrays(), list[tuple[int, np.ndarray]]()
    for number, (takes, place) in enumerate(steps):
        if takes:
            array = arrays.take((3, 2), BYTES)
            array[:] = number
            held.append((number, array[1:]))  # a view alone holds it
            del array
        elif held:
            held.pop(place % len(held))
        assert all((view == written).all() for written, view in held)


def test_an_array_is_given_again_once_it_is_let_go() -> None:
    arrays = ReusedArrays()
    first = arrays.take((4,), BYTES)
    place = first.ctypes.data
    second = arrays.take((4,), BYTES)
    assert second.ctypes.data != place
    del first
    assert arrays.take((4,), BYTES).ctypes.data == place


@pytest.mark.parametrize(
    "hold", [lambda array: array[:2][:1], torch.from_numpy, lambda array: pa.py_buffer(array[1:]), memoryview]
)
def test_whatever_is_made_of_it_without_a_copy_holds_it(hold: object) -> None:
    assert callable(hold)
    arrays = ReusedArrays()
    array = arrays.take((4,), BYTES)
    place, holder = array.ctypes.data, hold(array)
    del array
    assert arrays.take((4,), BYTES).ctypes.data != place
    del holder
    assert arrays.take((4,), BYTES).ctypes.data == place


def test_of_many_arrays_that_are_held_at_once_a_few_are_kept() -> None:
    arrays = ReusedArrays()
    held = [arrays.take((4,), BYTES) for _ in range(10)]
    places = {array.ctypes.data for array in held[:4]}
    del held
    assert {array.ctypes.data for array in [arrays.take((4,), BYTES) for _ in range(4)]} == places


def test_another_shape_or_type_gives_another_array() -> None:
    arrays = ReusedArrays()
    assert arrays.take((4, 2), BYTES).shape == (4, 2)
    assert arrays.take((4, 3), BYTES).shape == (4, 3)
    assert arrays.take((4, 3), np.dtype(np.int64)).dtype == np.int64
