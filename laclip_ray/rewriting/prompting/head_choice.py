"""Choose the pairs of the prompt heads of a prompt set.

An engine's prefix cache shares whole blocks of tokens. If a head ends inside a block, the engine computes the rest of
that block again for every caption. `aligned` heads end on a block boundary, or as close behind one as the pairs allow.

Guarantees: all functions are pure. A head is named by the numbers of its pairs in the prompt set.
"""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import combinations, permutations
from math import comb

import numpy as np

from laclip_ray.randomness import hash64
from laclip_ray.rewriting.prompting.prompts import PAIRS_PER_HEAD, ExamplePair, PromptSet

HeadNumbers = tuple[tuple[int, ...], ...]
"""For each head, the numbers of its pairs in the prompt set, in their order."""

MAX_TRIPLES = 8_192
"""Bound on the triples of pairs to compare. Of a larger prompt set (more than 37 pairs), a hash draws this many."""

_BEST_SHARE = 4
"""One triple in this many may become a head if fewer end on a block boundary: the ones that lose the fewest tokens."""

_MOST_USES = 2
"""A pair stands in at most this many times its even share of the heads, where other triples can stand in."""


@cache
def unaligned_heads(prompt_set: PromptSet, count: int, seed: int) -> HeadNumbers:
    """Choose three distinct pairs for each of `count` heads, without regard to their tokens."""

    def numbers(index: int) -> tuple[int, ...]:
        order = sorted(
            range(len(prompt_set.pairs)), key=lambda pair: hash64("head", seed, prompt_set.name, index, pair)
        )
        return _of_distinct_pictures(prompt_set, order)

    return tuple(numbers(index) for index in range(count))


def aligned_heads(prompt_set: PromptSet, count: int, seed: int, tokens: Sequence[float], block: int) -> HeadNumbers:
    """Choose three distinct pairs for each of `count` heads, such that few of their tokens lie behind whole blocks.

    The tokens of a head are taken to be the sum of its pairs' tokens: between two pairs stands a line break or a turn's
    end, across which no tokenizer joins text.

    Args:
        prompt_set: the set.
        count: number of heads.
        seed: decides which of the good triples become heads, and the order of their pairs.
        tokens: for each pair, a third of the shared tokens of the head that shows this pair three times.
        block: tokens of a cache block.
    """
    key = (seed, prompt_set.name)

    def lost(triple: tuple[int, ...]) -> int:
        return round(sum(tokens[pair] for pair in triple)) % block

    ranked = sorted(
        (lost(triple), hash64("aligned_head", *key, *triple), triple) for triple in _triples(prompt_set, key)
    )
    if not ranked:  # a very large set, nearly all of one picture
        return unaligned_heads(prompt_set, count, seed)
    aligned = sum(1 for loss, _, _ in ranked if not loss)
    pool = [triple for _, _, triple in ranked[: max(aligned, len(ranked) // _BEST_SHARE, 1)]]
    limit = -(-_MOST_USES * PAIRS_PER_HEAD * count // len(tokens))
    uses: Counter[int] = Counter()
    heads: list[tuple[int, ...]] = []
    turn = 0
    while len(heads) < count:
        before = len(heads)
        for triple in pool:
            if len(heads) < count and all(uses[pair] < limit for pair in triple):
                uses.update(triple)
                heads.append(_ordered(triple, turn, key))
        turn += 1
        if len(heads) == before:
            limit += 1
    return tuple(heads)


def _of_distinct_pictures(prompt_set: PromptSet, numbers: Sequence[int]) -> tuple[int, ...]:
    """The first pairs of a list, at most one of each group, as in the paper's code."""
    pictures: dict[str, int] = {}
    for number in numbers:
        group = prompt_set.pairs[number].group
        pictures.setdefault(f"pair {number}" if group is None else f"group {group}", number)
        if len(pictures) == PAIRS_PER_HEAD:
            break
    return tuple(pictures.values())


def _triples(prompt_set: PromptSet, key: tuple[int, str]) -> list[tuple[int, ...]]:
    """The triples to compare, each in ascending order."""
    triples = _any_triples(len(prompt_set.pairs), key)
    return [triple for triple in triples if len(_of_distinct_pictures(prompt_set, triple)) == PAIRS_PER_HEAD]


def _any_triples(pairs: int, key: tuple[int, str]) -> list[tuple[int, ...]]:
    if comb(pairs, PAIRS_PER_HEAD) <= MAX_TRIPLES:
        return list(combinations(range(pairs), PAIRS_PER_HEAD))
    drawn = (
        tuple(sorted(hash64("triple", *key, index, place) % pairs for place in range(PAIRS_PER_HEAD)))
        for index in range(MAX_TRIPLES)
    )
    return list(dict.fromkeys(triple for triple in drawn if len(set(triple)) == PAIRS_PER_HEAD))


def _ordered(triple: tuple[int, ...], turn: int, key: tuple[int, str]) -> tuple[int, ...]:
    """The triple in one of its orders, another one at each turn."""
    orders = sorted(permutations(triple), key=lambda order: hash64("order", *key, *order))
    return orders[turn % len(orders)]


def pack(heads: HeadNumbers) -> bytes:
    """The numbers in two bytes each: thousands of heads stay a small argument of a Ray actor."""
    return np.array(heads, np.uint16).tobytes()


def unpack(packed: bytes) -> HeadNumbers:
    """The inverse of `pack`."""
    return tuple(map(tuple, np.frombuffer(packed, np.uint16).reshape(-1, PAIRS_PER_HEAD).tolist()))


def pairs_of(prompt_set: PromptSet, heads: HeadNumbers) -> tuple[tuple[ExamplePair, ...], ...]:
    """The example pairs of each head."""
    return tuple(tuple(prompt_set.pairs[pair] for pair in numbers) for numbers in heads)
