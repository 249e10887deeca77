"""Every caption is counted once, every rewrite asked for is accepted or has a reason, and counts add up."""

import json
from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.rewriting.storing.statistics import Statistics
from tests.unit.rewriting.shards import Draw, reasons_of, table_of

# Reasons that leave no text, and reasons to refuse a text.
UNDRAWN = ("caption_empty", "engine_died")
REFUSED = ("too_short", "looping")
PROBLEMS = ("", "duplicate_id", "image_missing,duplicate_id")

verdicts = st.none() | st.sampled_from(REFUSED)
numbers = st.lists(st.integers(0, 2**15 - 1), min_size=1, max_size=3, unique=True).map(sorted)


@st.composite
def samples(draw: st.DrawFn, sample_id: str) -> list[Draw]:
    """The rows of one sample: a reason why it has no draw, or draws of up to three attempts draw."""
    caption, problems = f"caption {sample_id}", draw(st.sampled_from(PROBLEMS))
    if draw(st.integers(0, 4)) == 0:
        return [Draw(sample_id, caption, None, draw(st.sampled_from(UNDRAWN)), problems=problems, output_tokens=0)]
    output_tokens = draw(st.sampled_from([0, 3]))  # 0: an equal caption was counted
    return [
        Draw(sample_id, caption, f"text {number} {attempt}", reason, number, attempt, problems, output_tokens)
        for number in draw(numbers)
        for attempt, reason in enumerate(draw(st.lists(verdicts, min_size=1, max_size=3)))
    ]


@st.composite
def some_shards(draw: st.DrawFn, max_shards: int = 3) -> list[list[Draw]]:
    """The rows of a few shards, with other ids in draw."""
    return [
        [row for number in range(draw(st.integers(0, 5))) for row in draw(samples(f"s{shard}-{number}"))]
        for shard in range(draw(st.integers(1, max_shards)))
    ]


shards = some_shards(max_shards=1).map(lambda shards: shards[0])


def count(draws: Sequence[Draw]) -> Statistics:
    return Statistics.of(table_of(draws), reasons_of(draws))


def by_slot(draws: Sequence[Draw]) -> dict[tuple[str, int], list[str | None]]:
    """The reasons of all attempts at each slot."""
    slots: dict[tuple[str, int], list[str | None]] = {}
    for draw in draws:
        slots.setdefault((draw.id, draw.slot), []).append(draw.reason)
    return slots


def ids_of(draws: Sequence[Draw]) -> list[str]:
    return list(dict.fromkeys(draw.id for draw in draws))


@given(draws=shards)
def test_every_slot_is_accepted_or_unfilled(draws: list[Draw]) -> None:
    counts, slots = count(draws), by_slot(draws)
    assert counts.accepted + counts.unfilled.total() == len(slots)
    assert counts.accepted == sum(None in reasons for reasons in slots.values())


@given(draws=shards)
def test_an_unfilled_slot_counts_by_its_last_reason(draws: list[Draw]) -> None:
    last = Counter(reasons[-1] for reasons in by_slot(draws).values() if None not in reasons)
    assert count(draws).unfilled == last


@given(draws=shards)
def test_every_caption_is_counted_once_with_or_without_a_rewrite(draws: list[Draw]) -> None:
    counts = count(draws)
    with_rewrite = {draw.id for draw in draws if draw.reason is None}
    assert counts.captions == len(ids_of(draws))
    assert counts.captions_without_rewrite == len({*ids_of(draws)} - with_rewrite)


@given(draws=shards)
def test_every_refused_draw_is_counted_by_its_reason(draws: list[Draw]) -> None:
    assert count(draws).rejected == Counter(draw.reason for draw in draws if draw.reason is not None)


@given(draws=shards)
def test_tokens_of_all_draws_are_counted(draws: list[Draw]) -> None:
    counts = count(draws)
    assert counts.prompt_tokens == 10 * len(draws)
    assert counts.cached_tokens == 6 * len(draws)
    assert counts.output_tokens == sum(draw.output_tokens for draw in draws)


@given(draws=shards)
def test_captions_with_texts_that_took_no_tokens_are_reused(draws: list[Draw]) -> None:
    with_text = {draw.id for draw in draws if draw.text is not None}
    generated = {draw.id for draw in draws if draw.output_tokens}
    assert count(draws).reused == len(with_text - generated)


@given(draws=shards)
def test_each_problem_of_a_caption_is_counted_once(draws: list[Draw]) -> None:
    problems = {draw.id: draw.problems for draw in draws}
    expected = Counter(name for names in problems.values() for name in names.split(",") if name)
    assert count(draws).problems == expected


@given(draws=shards)
def test_captions_are_named_by_reason_and_by_problem(draws: list[Draw]) -> None:
    expected: dict[str, list[str]] = {}
    for draw in draws:
        for name in (draw.reason, *draw.problems.split(",")):
            if name and draw.id not in expected.setdefault(name, []):
                expected[name].append(draw.id)
    assert count(draws).named == expected


@given(parts=some_shards())
def test_counts_of_shards_add_up_to_those_of_the_whole(parts: list[list[Draw]]) -> None:
    total = Statistics()
    for part in parts:
        total.add(count(part))
    assert total == count([draw for part in parts for draw in part])


def test_time_adds_up() -> None:
    total = Statistics(engine_s=1.5, gpu_s=3.0)
    total.add(Statistics(engine_s=0.25, gpu_s=0.5))
    assert (total.engine_s, total.gpu_s) == (1.75, 3.5)


def test_adding_does_not_change_the_added_counts() -> None:
    draws = [Draw(f"k{n}", f"c{n}", "x", "too_short", problems="duplicate_id") for n in range(3)]
    part, total = count(draws), Statistics()
    total.add(part)
    total.add(count([draw._replace(id=f"other {draw.id}") for draw in draws]))
    assert part == count(draws)
    assert total.captions == 6


@pytest.mark.parametrize("samples_of_shard", [1, 19, 20, 21, 50])
def test_only_the_first_twenty_ids_are_named_and_each_once(samples_of_shard: int) -> None:
    draws = [
        Draw(f"k{n}", f"c{n}", "x", "too_short", draw, problems="duplicate_id")
        for n in range(samples_of_shard)
        for draw in range(2)
    ]
    first = [f"k{n}" for n in range(min(20, samples_of_shard))]
    counts = count(draws)
    assert counts.named == {"too_short": first, "duplicate_id": first}
    counts.add(count(draws))  # the same again
    assert counts.named["too_short"] == first
    counts.add(count([draw._replace(id=f"other {draw.id}") for draw in draws]))
    assert counts.named["too_short"] == [*first, *(f"other {name}" for name in first)][:20]
    assert counts.rejected["too_short"] == 6 * samples_of_shard


@given(draws=shards)
def test_statistics_survive_json(draws: list[Draw]) -> None:
    counts = count(draws)
    counts.engine_s, counts.gpu_s = 0.1, 1e-3
    again = Statistics.from_json(json.loads(json.dumps(counts.to_json())))
    assert again == counts
    assert again.unfilled["never seen"] == 0
    again.add(counts)
    assert again.captions == 2 * counts.captions


def test_a_shard_without_rows_counts_nothing() -> None:
    assert count([]) == Statistics()


def test_a_table_in_several_pieces_is_counted_as_one() -> None:
    draws = [Draw(f"k{n}", f"c{n}", "x", ("too_short", None)[n % 2], problems="duplicate_id") for n in range(6)]
    whole = table_of(draws)
    cut = pa.concat_tables([whole.slice(0, 1), whole.slice(1, 3), whole.slice(4)])
    assert Statistics.of(cut, reasons_of(draws)) == count(draws)
