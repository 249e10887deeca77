"""Draws are pure, uniform functions of their keys."""

import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.randomness import generator, hash64, permutation, uniform, uniforms

key = st.one_of(st.integers(), st.text())
key_lists = st.lists(key, max_size=4)


@given(keys=key_lists)
def test_the_same_keys_give_the_same_draws(keys: list[int | str]) -> None:
    assert hash64(*keys) == hash64(*keys)
    assert uniform(*keys) == uniform(*keys)
    assert uniforms(5, *keys) == uniforms(5, *keys)
    assert generator(*keys).random(3).tolist() == generator(*keys).random(3).tolist()
    assert permutation(9, *keys) == permutation(9, *keys)


@given(first=key_lists, second=key_lists)
def test_different_keys_give_different_hashes(first: list[int | str], second: list[int | str]) -> None:
    if first != second:
        assert hash64(*first) != hash64(*second)


@given(number=st.integers())
def test_a_number_and_its_text_are_different_keys(number: int) -> None:
    assert hash64(number, "a") != hash64(str(number), "a")


def test_the_boundary_between_keys_matters() -> None:
    assert len({hash64("ab", "c"), hash64("a", "bc"), hash64("abc"), hash64("abc", ""), hash64("", "abc")}) == 5


@given(keys=key_lists)
def test_draws_are_in_range(keys: list[int | str]) -> None:
    assert 0 <= hash64(*keys) < 2**64
    assert 0.0 <= uniform(*keys) < 1.0
    assert all(0.0 <= draw < 1.0 for draw in uniforms(8, *keys))


@given(count=st.integers(0, 200), keys=key_lists)
def test_a_permutation_holds_every_number_once(count: int, keys: list[int | str]) -> None:
    assert sorted(permutation(count, *keys)) == list(range(count))


def test_uniform_draws_fill_the_unit_interval_evenly() -> None:
    counts = [0] * 10
    for number in range(10_000):
        counts[int(uniform("even", number) * 10)] += 1
    # Binomial(10000, 0.1): five standard deviations are 150.
    assert all(abs(count - 1_000) < 150 for count in counts)


def test_joint_draws_are_uniform_and_uncorrelated() -> None:
    draws = np.array([uniforms(4, "together", number) for number in range(10_000)])
    assert np.abs(draws.mean(axis=0) - 0.5).max() < 0.015  # five standard deviations
    assert np.abs(np.corrcoef(draws.T) - np.eye(4)).max() < 0.05


def test_another_process_gives_the_same_draws() -> None:
    code = "from laclip_ray.randomness import *; print(hash64('a', 1, 'é'), permutation(7, 'b', 2))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == f"{hash64('a', 1, 'é')} {permutation(7, 'b', 2)}"
