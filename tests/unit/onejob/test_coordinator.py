"""The board: who waits for what, and what it says."""

import asyncio

import pytest

from laclip_ray.data.schedule import Schedule
from laclip_ray.onejob.coordinator import Coordinator


def test_who_waits_for_a_shard_goes_on_when_its_last_prompt_set_is_settled() -> None:
    async def scenario() -> None:
        board = Coordinator({"a": 2, "b": 1}, shards=3)
        waiting = asyncio.create_task(board.wait_for_rewrites(["a"]))
        await board.record_settled("a", 10)
        await board.record_settled("b", 5)
        await asyncio.sleep(0)
        assert not waiting.done()
        await board.record_settled("a", 10)
        await asyncio.wait_for(waiting, 5)

    asyncio.run(scenario())


def test_nobody_waits_for_what_was_there_at_the_start_or_after_the_end() -> None:
    async def scenario() -> None:
        board = Coordinator({"a": 1, "b": 1}, shards=3)
        await asyncio.wait_for(board.wait_for_rewrites(["c"]), 5)
        waiting = asyncio.create_task(board.wait_for_rewrites(["a", "b"]))
        await asyncio.sleep(0)
        await board.end_rewriting()
        await asyncio.wait_for(waiting, 5)

    asyncio.run(scenario())


def test_a_shard_settled_once_too_often_counts_once() -> None:
    async def scenario() -> None:
        board = Coordinator({"a": 1, "b": 1}, shards=2)
        await board.record_settled("a", 1)
        await board.record_settled("a", 1)
        assert (await board.progress(0.0))["rewritten_shards"] == 1

    asyncio.run(scenario())


def test_the_lag_is_what_training_has_reached_and_rewriting_has_not() -> None:
    async def scenario() -> None:
        board = Coordinator({str(number): 1 for number in range(8)}, shards=10)
        await board.record_settled("0", 4)
        found = {epoch: await board.progress(epoch) for epoch in (0.1, 0.5, 1.7)}
        assert [state["rewritten_shards"] for state in found.values()] == [3, 3, 3]
        assert [state["lag_shards"] for state in found.values()] == [0, 2, 7]

    asyncio.run(scenario())


def test_the_timeline_has_events_with_the_shards_rewritten_by_then() -> None:
    async def scenario() -> None:
        board = Coordinator({"a": 1, "b": 1}, shards=2)
        await board.record_settled("a", 0)
        await board.record_event("something")
        await board.record_settled("b", 0)
        await board.end_rewriting()
        timeline = await board.timeline()
        assert [(each["event"], each["rewritten_shards"]) for each in timeline] == [
            ("1 of 2 shards rewritten", 1),
            ("something", 1),
            ("2 of 2 shards rewritten", 2),
            ("rewriting has ended", 2),
        ]

    asyncio.run(scenario())


def test_a_shard_that_is_given_up_is_waited_for_by_nobody_and_counts_as_not_rewritten() -> None:
    async def scenario() -> None:
        board = Coordinator({"a": 2, "b": 1}, shards=2)
        await board.record_settled("a", 10)
        await board.record_settled("a", None)
        await asyncio.wait_for(board.wait_for_rewrites(["a"]), 5)
        assert (await board.progress(1.0))["rewritten_shards"] == 0
        await board.record_settled("b", 10)
        state = await board.progress(1.0)
        assert (state["rewritten_shards"], state["lag_shards"]) == (1, 1)
        assert [each["event"] for each in await board.timeline()] == [
            "0 of 2 shards rewritten",
            "1 of 2 shards rewritten",
        ]

    asyncio.run(scenario())


def test_a_shard_is_taken_when_there_is_room_and_a_ticket_that_is_shown_again_gives_the_same() -> None:
    async def scenario() -> None:
        names = ["a", "b", "c"]
        schedule = Schedule(3, 2, 0)
        first, second, third = (names[schedule.entry(index).shard] for index in range(3))
        board = Coordinator(dict.fromkeys(names, 1), shards=3)
        await board.offer({name: {"shard": name} for name in names}, schedule, names)
        assert await board.take(0, most=1) == {"shard": first}
        waiting = asyncio.create_task(board.take(1, most=1))
        assert await asyncio.wait_for(board.take(0, most=1), 5) == {"shard": first}
        assert not waiting.done()
        await board.record_settled(first, 1)
        assert await asyncio.wait_for(waiting, 5) == {"shard": second}
        await board.record_read(2)  # the third is passed, and read again in the second epoch
        assert await board.take(2, most=2) == {"shard": third}

    asyncio.run(scenario())


def test_what_reading_has_passed_before_anything_is_offered_comes_last() -> None:
    async def scenario() -> None:
        names = ["a", "b", "c"]
        schedule = Schedule(3, 1, 0)
        board = Coordinator(dict.fromkeys(names, 1), shards=3)
        await board.record_read(0)
        await board.offer({name: {"shard": name} for name in names}, schedule, names)
        taken = [(await board.take(ticket, most=3))["shard"] for ticket in range(3)]
        assert taken == [names[schedule.entry(index).shard] for index in (1, 2, 0)]

    asyncio.run(scenario())


def test_a_run_that_goes_on_takes_first_what_is_read_first() -> None:
    async def scenario() -> None:
        names = ["a", "b", "c"]
        schedule = Schedule(3, 2, 0)
        board = Coordinator(dict.fromkeys(names, 1), shards=3, begin=2)
        await board.offer({name: {"shard": name} for name in names}, schedule, names)
        assert await board.take(0, most=1) == {"shard": names[schedule.entry(2).shard]}

    asyncio.run(scenario())


def test_training_that_goes_back_to_a_checkpoint_is_followed() -> None:
    async def scenario() -> None:
        names = ["a", "b", "c"]
        schedule = Schedule(3, 2, 0)
        board = Coordinator(dict.fromkeys(names, 1), shards=3)
        await board.offer({name: {"shard": name} for name in names}, schedule, names)
        await board.record_read(1)
        await board.record_start(0)
        assert await board.take(0, most=1) == {"shard": names[schedule.entry(0).shard]}

    asyncio.run(scenario())


def test_what_cannot_be_rewritten_before_it_is_read_is_left_for_the_next_epoch() -> None:
    async def scenario() -> None:
        now_s = 0.0
        names = [str(number) for number in range(20)]
        schedule = Schedule(20, 2, 0)
        board = Coordinator(dict.fromkeys(names, 1), shards=20, clock=lambda: now_s)
        await board.offer({name: {"shard": name} for name in names}, schedule, names)
        order = [names[schedule.entry(index).shard] for index in range(40)]
        # A shard is settled each two seconds, and one is read each second.
        taken = [(await board.take(ticket, most=9))["shard"] for ticket in range(3)]
        assert taken == order[:3]
        for index in range(5):
            now_s = float(index)
            await board.record_read(index)
            if index in (2, 4):
                await board.record_settled(taken.pop(0), 1)
        # One is still under way: four seconds until a further one is ready, and five entries are being read.
        assert await board.take(3, most=9) == {"shard": order[9]}

    asyncio.run(scenario())


def test_nobody_waits_for_a_turn_after_the_end() -> None:
    async def scenario() -> None:
        names = ["a", "b"]
        board = Coordinator(dict.fromkeys(names, 1), shards=2)
        await board.offer({name: {"shard": name} for name in names}, Schedule(2, 1, 0), names)
        await board.take(0, most=1)
        waiting = asyncio.create_task(board.take(1, most=1))
        await asyncio.sleep(0)
        await board.end_rewriting()
        with pytest.raises(RuntimeError, match="ended"):
            await asyncio.wait_for(waiting, 5)

    asyncio.run(scenario())


def test_a_shard_that_is_given_back_makes_room_and_is_taken_again_with_what_is_left_of_it() -> None:
    async def scenario() -> None:
        names = ("a", "b", "c")
        items = {name: {"shard": name} for name in names}
        board = Coordinator(dict.fromkeys(names, 1), shards=3)
        schedule = Schedule(3, 1, 0)
        await board.offer(items, schedule, names)
        first = (await board.take(0, most=1))["shard"]
        waiting = asyncio.create_task(board.take(1, most=1))
        await asyncio.sleep(0)
        await board.give_back(first, {"shard": first, "units": "one"})
        assert await asyncio.wait_for(waiting, 5) == {"shard": first, "units": "one"}
        await board.record_settled(first, 1)
        third = (await board.take(2, most=1))["shard"]
        await board.record_settled(third, 1)
        (last,) = set(names) - {first, third}
        await board.offer({last: items[last]}, schedule, names)
        assert await asyncio.wait_for(board.take(0, most=1), 5) == items[last]
        await board.record_settled(last, 1)
        assert (await board.progress(0.0))["rewritten_shards"] == 3

    asyncio.run(scenario())
