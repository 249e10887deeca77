"""The work of engines is counted from their draws, and the cache is reported as defeated only when it is."""

from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.rewriting.engines.work import CacheWatch, EngineSpeed, EngineWork
from laclip_ray.rewriting.tables import MADE_SCHEMA

PROMPT_TOKENS, HEAD_TOKENS = 160, 128
sizes = st.integers(1, 400)


def work(requests: int, cached: float, **fields: Any) -> EngineWork:
    """The work of a unit whose requests found some tokens of their prompts in the cache."""
    tokens = {"prompt_tokens": PROMPT_TOKENS * requests, "cached_tokens": round(cached), "output_tokens": 20 * requests}
    return EngineWork(**{"hardware": "1 x GPU", "requests": requests, **tokens, **fields})


def ideal(requests: int, heads: int) -> int:
    """Cached tokens of a unit if each head is computed once."""
    return HEAD_TOKENS * max(requests - heads, 0)


def made(*rows: tuple[int, int, int, int, int]) -> pa.Table:
    """Draws, each as (row, attempt, prompt tokens, cached tokens, output tokens)."""
    names = ("row", "attempt", "prompt_tokens", "cached_tokens", "output_tokens")
    blank = {"draw": 0, "outcome": "drawn", "text": "a", "truncated": False}
    return pa.Table.from_pylist([{**blank, **dict(zip(names, row, strict=True))} for row in rows], schema=MADE_SCHEMA)


def test_a_request_counts_once_for_all_its_draws_and_samples() -> None:
    # The first sample has two draws of one request and a redraw; the second shares its texts; the third has none.
    counted = EngineWork("cpu").with_tokens_of(
        made((0, 0, 300, 200, 9), (0, 0, 0, 0, 8), (0, 1, 0, 0, 7), (1, 0, 0, 0, 0), (2, 0, 0, 0, 0))
    )
    assert (counted.requests, counted.prompt_tokens, counted.cached_tokens, counted.output_tokens) == (2, 300, 200, 24)


@given(start_s=st.floats(0, 1e4), block=st.none() | st.integers(1, 2_000), requests=st.integers(0, 10_000))
def test_work_survives_json(start_s: float, block: int | None, requests: int) -> None:
    counted = EngineWork("2 x GPU", block, 3.5, start_s, requests, 5, 4, 3)
    assert EngineWork.from_json(counted.to_json()) == counted


def test_the_speed_is_that_of_one_engine_without_its_start() -> None:
    assert EngineSpeed().tokens_per_s is None
    speed = EngineSpeed()
    speed.add(work(100, 0, engine_s=70.0, start_s=60.0))
    speed.add(work(100, 0, engine_s=10.0))
    assert speed.tokens_per_s == 20 * 200 / 20.0
    assert speed.hardware == {"1 x GPU"}


@given(units=st.lists(sizes, min_size=1, max_size=20), heads=st.integers(1, 64))
def test_a_cache_that_computes_each_head_once_is_never_reported(units: list[int], heads: int) -> None:
    watch = CacheWatch({"set": HEAD_TOKENS}, heads)
    computed = 0
    for requests in units:
        new = min(requests, heads - computed)
        computed += new
        watch.add("set", "engine", work(requests, HEAD_TOKENS * (requests - new)))
        assert watch.warning() is None


@given(units=st.lists(sizes, min_size=1, max_size=20), heads=st.integers(1, 64))
def test_a_defeated_cache_is_reported_once_when_the_heads_were_used_a_few_times(units: list[int], heads: int) -> None:
    watch = CacheWatch({"set": HEAD_TOKENS}, heads)
    requests, warnings = 0, []
    for count in units:
        requests += count
        watch.add("set", "engine", work(count, 0, cache_block_tokens=528))
        if warning := watch.warning():
            warnings.append(warning)
            assert requests >= 4 * heads
    assert len(warnings) == (requests >= 4 * heads)


def test_every_engine_computes_the_heads_of_every_set() -> None:
    watch = CacheWatch({"one": HEAD_TOKENS, "two": HEAD_TOKENS}, 32)
    for name in ("one", "two"):
        for engine in ("a", "b"):
            watch.add(name, engine, work(128, ideal(128, 32)))
    assert watch.warning() is None


def test_the_warning_shows_the_arithmetic_and_the_cause() -> None:
    watch = CacheWatch({"set": HEAD_TOKENS}, 32)
    watch.add("set", "engine", work(3_200, 0, cache_block_tokens=1_056))
    warning = watch.warning()
    assert warning is not None
    assert "gave 0% of the first 3,200 prompts, and their heads promise 79%" in warning
    assert "compute 160 prompt tokens a request instead of 33, 4.8 times as many" in warning
    assert "whole blocks of 1,056 tokens, and a head has about 128" in warning
    assert "Mamba" in warning


def test_short_blocks_point_to_the_size_of_the_cache() -> None:
    watch = CacheWatch({"set": HEAD_TOKENS}, 3_360)
    watch.add("set", "engine", work(20_000, 1_000, cache_block_tokens=16))
    warning = watch.warning()
    assert warning is not None
    assert "too small for 3,360 heads" in warning
    assert "Mamba" not in warning
