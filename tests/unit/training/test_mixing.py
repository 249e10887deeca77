"""The shards of a batch are counted, and batches of ordered data, or of few shards, get one warning."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.config import StreamConfig
from laclip_ray.training.mixing import Mixing, Resemblance, count_shards, measure_resemblance, mixing_warning
from tests.cases import case

SHARDS = 40
START, END, PADDING = 49_406, 49_407, 0


def tokens_of(shards: npt.NDArray[np.int64], kinds: bool, seed: int = 0) -> npt.NDArray[np.int64]:
    """A text of ten words for each row. With `kinds`, half of the words belong to the row's shard."""
    draws = np.random.default_rng(seed)
    words = draws.integers(1_000, 9_000, size=(len(shards), 10))
    if kinds:
        words[:, :5] = 20_000 + 20 * shards[:, None] + draws.integers(20, size=(len(shards), 5))
    rows = len(shards)
    ends = [np.full((rows, 1), END), np.full((rows, 5), PADDING)]
    return np.concatenate([np.full((rows, 1), START), words, *ends], axis=1)


def batch_of(shards: npt.NDArray[np.int64], kinds: bool, epoch: int = 0) -> dict[str, Any]:
    return {
        "schedule_index": shards + epoch * SHARDS,
        "tokens": tokens_of(shards, kinds)[:, None],
        "text_sampled": np.zeros(len(shards), np.int16),
    }


@given(seed=st.integers(0, 50), shard_count=st.integers(2, 30))
def test_captions_in_random_order_do_not_resemble_their_shards(seed: int, shard_count: int) -> None:
    shards = np.random.default_rng(seed).integers(shard_count, size=512)
    resemblance = measure_resemblance(tokens_of(shards, kinds=False, seed=seed), shards)
    assert resemblance is not None
    assert not resemblance.is_ordered


@pytest.mark.parametrize("rows", [64, 512, 4_096])
def test_captions_of_shards_with_words_of_their_own_do(rows: int) -> None:
    shards = np.sort(np.random.default_rng(0).integers(8, size=rows))
    resemblance = measure_resemblance(tokens_of(shards, kinds=True), shards)
    assert resemblance is not None
    assert resemblance.is_ordered
    assert resemblance.in_shard > 2 * resemblance.across


@pytest.mark.parametrize("larger", [32, 40, 55])
def test_the_words_of_the_larger_of_two_shards_are_not_taken_for_common_ones(larger: int) -> None:
    shards = np.repeat([0, 1], [larger, 64 - larger])
    # Every caption of a shard names the shard's one thing, in other words besides.
    tokens = tokens_of(shards, kinds=False)
    tokens[:, 1:3] = 20_000 + 2 * shards[:, None] + np.arange(2)
    resemblance = measure_resemblance(tokens, shards)
    assert resemblance is not None
    assert resemblance.is_ordered


@pytest.mark.parametrize(
    "shards", [np.zeros(64, np.int64), np.arange(64), np.zeros(0, np.int64), np.zeros(1, np.int64)]
)
def test_without_pairs_of_both_kinds_nothing_is_known(shards: npt.NDArray[np.int64]) -> None:
    assert measure_resemblance(tokens_of(shards, kinds=True), shards) is None


def test_the_shards_of_a_global_batch_are_those_of_all_workers_whatever_their_epoch() -> None:
    workers = [Mixing(SHARDS), Mixing(SHARDS)]
    workers[0].add(batch_of(np.array([1, 1, 2]), kinds=False))
    workers[1].add(batch_of(np.array([2, 3, 3]), kinds=False, epoch=1))
    assert [mixing.shards() for mixing in workers] == [[1, 2], [2, 3]]
    assert count_shards(mixing.shards() for mixing in workers) == 3


@case(
    "Reading data",
    "data in an order that has a meaning (classes, sources, dates), read few shards at a time",
    "one warning: how alike captions of a shard are, the shards in a batch, and the setting that mixes more",
    exit_code=0,
    counted_as="shards_in_batch",
)
def test_ordered_data_in_batches_of_few_shards_is_warned_about() -> None:
    mixing = Mixing(SHARDS)
    mixing.add(batch_of(np.repeat(np.arange(10), 100), kinds=True))
    warning = mixing.warning([mixing.shards()], 1_000, StreamConfig())
    assert warning is not None
    assert warning.startswith("the data is ordered: captions of one shard share ")
    assert "a batch mixes the samples of 10 of 40 shards (a full shuffle: 40)" in warning
    assert "Raise stream.shuffle_buffer_rows (2,048 now)" in warning
    exact = mixing.warning([mixing.shards()], 1_000, StreamConfig(order="exact"))
    assert exact is not None
    assert "stream.order=fast mixes more shards" in exact


def test_the_resemblance_is_that_of_the_first_batch_with_two_shards() -> None:
    mixing = Mixing(SHARDS)
    for shards in (np.zeros(64, np.int64), np.ones(64, np.int64)):
        mixing.add(batch_of(shards, kinds=True))
        assert mixing.resemblance is None
    mixing.add(batch_of(np.repeat([2, 3], 32), kinds=True))
    first = mixing.resemblance
    assert first is not None
    assert first.is_ordered
    mixing.add(batch_of(np.repeat([4, 5], 32), kinds=False))
    assert mixing.resemblance is first


ORDERED, RANDOM = Resemblance(0.2, 0.05, True), Resemblance(0.05, 0.05, False)


@pytest.mark.parametrize(
    ("shards", "shard_count", "batch_size", "resemblance", "is_warned"),
    [
        (30, 300, 8_192, RANDOM, False),  # random data needs no more than a few shards
        (7, 300, 8_192, RANDOM, True),
        (7, 300, 8_192, None, True),
        (30, 300, 8_192, ORDERED, True),
        (200, 300, 8_192, ORDERED, False),
        (4, 4, 8_192, ORDERED, False),  # all shards there are
        (1, 1, 64, None, False),
        (16, 300, 16, ORDERED, False),  # a small batch cannot have more
        (2, 4, 8_192, RANDOM, False),
        (1, 4, 8_192, RANDOM, True),
    ],
)
def test_a_batch_is_compared_with_a_full_shuffle(
    shards: int, shard_count: int, batch_size: int, resemblance: Resemblance | None, is_warned: bool
) -> None:
    warning = mixing_warning(shards, shard_count, batch_size, resemblance, StreamConfig())
    assert (warning is not None) == is_warned
