"""Prompt heads that end on a block of the prefix cache: pure, varied, with few tokens behind the last whole block."""

from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.rewriting.prompting.head_choice import (
    HeadNumbers,
    aligned_heads,
    pack,
    pairs_of,
    unaligned_heads,
    unpack,
)
from laclip_ray.rewriting.prompting.prompts import PAIRS_PER_HEAD, ExamplePair, PromptSet

blocks = st.sampled_from([16, 32, 64, 128])
counts = st.integers(1, 40)
seeds = st.integers(0, 99)
lengths = st.lists(st.integers(20, 90), min_size=3, max_size=18)


def set_of(pairs: int, name: str = "test") -> PromptSet:
    return PromptSet(name, "", tuple(ExamplePair(f"source {n}", f"target {n}") for n in range(pairs)))


def lost(heads: tuple[tuple[int, ...], ...], tokens: list[int], block: int) -> list[int]:
    """For each head, its tokens behind the last whole block."""
    return [sum(tokens[pair] for pair in head) % block for head in heads]


@given(tokens=lengths, count=counts, seed=seeds, block=blocks)
def test_every_head_shows_three_distinct_pairs_of_the_set(tokens: list[int], count: int, seed: int, block: int) -> None:
    prompt_set = set_of(len(tokens))
    for heads in (
        aligned_heads(prompt_set, count, seed, tokens, block),
        unaligned_heads(prompt_set, count, seed),
    ):
        assert len(heads) == count
        assert all(len(set(head)) == PAIRS_PER_HEAD and set(head) <= set(range(len(tokens))) for head in heads)
        shown = pairs_of(prompt_set, heads)
        assert shown[0] == tuple(prompt_set.pairs[pair] for pair in heads[0])


@given(groups=st.lists(st.integers(0, 5), min_size=9, max_size=60), count=counts, seed=seeds, block=blocks)
def test_a_head_shows_at_most_one_pair_of_a_group(groups: list[int], count: int, seed: int, block: int) -> None:
    groups = [0, 1, 2, *groups]
    pairs = tuple(ExamplePair(f"source {n}", f"target {n}", group) for n, group in enumerate(groups))
    prompt_set = PromptSet("test", "", pairs)
    tokens = [20 + number for number in range(len(groups))]
    heads = (*aligned_heads(prompt_set, count, seed, tokens, block), *unaligned_heads(prompt_set, count, seed))
    assert all(len({groups[pair] for pair in head}) == PAIRS_PER_HEAD for head in heads)


@given(tokens=lengths, count=counts, seed=seeds, block=blocks)
def test_the_choice_is_a_function_of_its_arguments(tokens: list[int], count: int, seed: int, block: int) -> None:
    prompt_set = set_of(len(tokens))
    first = aligned_heads(prompt_set, count, seed, tokens, block)
    assert aligned_heads(set_of(len(tokens)), count, seed, list(tokens), block) == first


@given(tokens=lengths, count=counts, seed=seeds, block=blocks)
def test_heads_come_from_the_aligned_triples_or_the_best_quarter(
    tokens: list[int], count: int, seed: int, block: int
) -> None:
    every = sorted(sum(triple) % block for triple in combinations(tokens, PAIRS_PER_HEAD))
    aligned = every.count(0)
    worst = every[max(aligned, len(every) // 4, 1) - 1]
    assert max(lost(aligned_heads(set_of(len(tokens)), count, seed, tokens, block), tokens, block)) <= worst


@given(seed=seeds, extra=st.lists(st.integers(0, 3), min_size=16, max_size=16))
def test_with_enough_aligned_triples_no_token_is_lost(seed: int, extra: list[int]) -> None:
    tokens = [32 + 4 * more for more in extra]
    heads = aligned_heads(set_of(16), 32, seed, tokens, 4)
    assert set(lost(heads, tokens, 4)) == {0}
    assert len({frozenset(head) for head in heads}) == 32


def test_heads_differ_by_seed_set_and_block() -> None:
    tokens = [40 + 7 * pair % 23 for pair in range(16)]
    chosen = {
        aligned_heads(set_of(16), 8, 0, tokens, 16),
        aligned_heads(set_of(16), 8, 1, tokens, 16),
        aligned_heads(set_of(16, "other"), 8, 0, tokens, 16),
        aligned_heads(set_of(16), 8, 0, tokens, 32),
    }
    assert len(chosen) == 4


@given(tokens=st.lists(st.integers(40, 60), min_size=16, max_size=16), seed=seeds)
def test_no_pair_stands_in_more_than_about_twice_its_share_of_the_heads(tokens: list[int], seed: int) -> None:
    uses = Counter(pair for head in aligned_heads(set_of(16), 32, seed, tokens, 16) for pair in head)
    assert max(uses.values()) <= 2 * PAIRS_PER_HEAD * 32 / 16 + 1


def test_the_smallest_sets_give_their_only_triple_in_every_order() -> None:
    heads = aligned_heads(set_of(3), 12, 0, [5, 6, 7], 16)
    assert set(Counter(heads).values()) == {2}
    assert len(set(heads)) == 6


@pytest.mark.parametrize("pairs", [37, 360])
def test_a_large_set_is_aligned_without_comparing_all_its_triples(pairs: int) -> None:
    tokens = [30 + 13 * pair % 29 for pair in range(pairs)]
    heads = aligned_heads(set_of(pairs), 64, 0, tokens, 32)
    assert set(lost(heads, tokens, 32)) == {0}
    assert len(set(heads)) == 64


@given(heads=st.lists(st.tuples(*[st.integers(0, 400)] * 3), max_size=20).map(tuple))
def test_packed_heads_are_unpacked_unchanged(heads: HeadNumbers) -> None:
    assert unpack(pack(heads)) == heads
