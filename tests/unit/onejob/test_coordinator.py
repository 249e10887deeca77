"""The coordinator: which calls wait, which shard is next, and its reports."""

import asyncio

import pytest

from laclip_ray.data.schedule import Schedule
from laclip_ray.onejob.coordinator import Coordinator


def test_a_call_waits_until_the_last_prompt_set_of_its_shard_is_settled() -> None:
    async def scenario() -> None:
        coordinator = Coordinator({"a": 2, "b": 1}, shards=3)
        waiting = asyncio.create_task(coordinator.wait_for_rewrites(["a"]))
        await coordinator.record_settled("a", 10)
        await coordinator.record_settled("b", 5)
        await asyncio.sleep(0)
        assert not waiting.done()
        await coordinator.record_settled("a", 10)
        await asyncio.wait_for(waiting, 5)

    asyncio.run(scenario())


def test_no_call_waits_for_committed_shards_or_after_the_end() -> None:
    async def scenario() -> None:
        coordinator = Coordinator({"a": 1, "b": 1}, shards=3)
        await asyncio.wait_for(coordinator.wait_for_rewrites(["c"]), 5)
        waiting = asyncio.create_task(coordinator.wait_for_rewrites(["a", "b"]))
        await asyncio.sleep(0)
        await coordinator.end_rewriting()
        await asyncio.wait_for(waiting, 5)

    asyncio.run(scenario())


def test_a_shard_settled_twice_counts_once() -> None:
    async def scenario() -> None:
        coordinator = Coordinator({"a": 1, "b": 1}, shards=2)
        await coordinator.record_settled("a", 1)
        await coordinator.record_settled("a", 1)
        assert (await coordinator.progress(0.0))["rewritten_shards"] == 1

    asyncio.run(scenario())


def test_the_lag_is_the_shards_that_training_reached_before_rewriting() -> None:
    async def scenario() -> None:
        coordinator = Coordinator({str(number): 1 for number in range(8)}, shards=10)
        await coordinator.record_settled("0", 4)
        states = {epoch: await coordinator.progress(epoch) for epoch in (0.1, 0.5, 1.7)}
        assert [state["rewritten_shards"] for state in states.values()] == [3, 3, 3]
        assert [state["lag_shards"] for state in states.values()] == [0, 2, 7]

    asyncio.run(scenario())


def test_the_timeline_holds_events_with_the_shards_rewritten_by_then() -> None:
    async def scenario() -> None:
        coordinator = Coordinator({"a": 1, "b": 1}, shards=2)
        await coordinator.record_settled("a", 0)
        await coordinator.record_event("something")
        await coordinator.record_settled("b", 0)
        await coordinator.end_rewriting()
        timeline = await coordinator.timeline()
        assert [(event["event"], event["rewritten_shards"]) for event in timeline] == [
            ("1 of 2 shards rewritten", 1),
            ("something", 1),
            ("2 of 2 shards rewritten", 2),
            ("rewriting has ended", 2),
        ]

    asyncio.run(scenario())


def test_no_call_waits_for_a_given_up_shard_and_it_counts_as_not_rewritten() -> None:
    async def scenario() -> None:
        coordinator = Coordinator({"a": 2, "b": 1}, shards=2)
        await coordinator.record_settled("a", 10)
        await coordinator.record_settled("a", None)
        await asyncio.wait_for(coordinator.wait_for_rewrites(["a"]), 5)
        assert (await coordinator.progress(1.0))["rewritten_shards"] == 0
        await coordinator.record_settled("b", 10)
        state = await coordinator.progress(1.0)
        assert (state["rewritten_shards"], state["lag_shards"]) == (1, 1)
        assert [event["event"] for event in await coordinator.timeline()] == [
            "0 of 2 shards rewritten",
            "1 of 2 shards rewritten",
        ]

    asyncio.run(scenario())


def test_a_shard_is_taken_once_there_is_room_and_a_repeated_ticket_gets_the_same() -> None:
    async def scenario() -> None:
        names = ["a", "b", "c"]
        schedule = Schedule(3, 2, 0)
        first, second, third = (names[schedule.entry(index).shard] for index in range(3))
        coordinator = Coordinator(dict.fromkeys(names, 1), shards=3)
        await coordinator.offer({name: {"shard": name} for name in names}, schedule, names)
        assert await coordinator.take(0, most=1) == {"shard": first}
        waiting = asyncio.create_task(coordinator.take(1, most=1))
        assert await asyncio.wait_for(coordinator.take(0, most=1), 5) == {"shard": first}
        assert not waiting.done()
        await coordinator.record_settled(first, 1)
        assert await asyncio.wait_for(waiting, 5) == {"shard": second}
        await coordinator.record_read(2)  # training passes the third shard, and reads it again in the second epoch
        assert await coordinator.take(2, most=2) == {"shard": third}

    asyncio.run(scenario())


def test_shards_that_were_read_before_the_offer_come_last() -> None:
    async def scenario() -> None:
        names = ["a", "b", "c"]
        schedule = Schedule(3, 1, 0)
        coordinator = Coordinator(dict.fromkeys(names, 1), shards=3)
        await coordinator.record_read(0)
        await coordinator.offer({name: {"shard": name} for name in names}, schedule, names)
        taken = [(await coordinator.take(ticket, most=3))["shard"] for ticket in range(3)]
        assert taken == [names[schedule.entry(index).shard] for index in (1, 2, 0)]

    asyncio.run(scenario())


def test_a_resumed_run_takes_first_the_shard_that_it_reads_first() -> None:
    async def scenario() -> None:
        names = ["a", "b", "c"]
        schedule = Schedule(3, 2, 0)
        coordinator = Coordinator(dict.fromkeys(names, 1), shards=3, start=2)
        await coordinator.offer({name: {"shard": name} for name in names}, schedule, names)
        assert await coordinator.take(0, most=1) == {"shard": names[schedule.entry(2).shard]}

    asyncio.run(scenario())


def test_the_order_follows_training_back_to_a_checkpoint() -> None:
    async def scenario() -> None:
        names = ["a", "b", "c"]
        schedule = Schedule(3, 2, 0)
        coordinator = Coordinator(dict.fromkeys(names, 1), shards=3)
        await coordinator.offer({name: {"shard": name} for name in names}, schedule, names)
        await coordinator.record_read(1)
        await coordinator.record_start(0)
        assert await coordinator.take(0, most=1) == {"shard": names[schedule.entry(0).shard]}

    asyncio.run(scenario())


def test_shards_that_cannot_be_rewritten_before_they_are_read_are_left_for_the_next_epoch() -> None:
    async def scenario() -> None:
        now_s = 0.0
        names = [str(number) for number in range(20)]
        schedule = Schedule(20, 2, 0)
        coordinator = Coordinator(dict.fromkeys(names, 1), shards=20, clock=lambda: now_s)
        await coordinator.offer({name: {"shard": name} for name in names}, schedule, names)
        order = [names[schedule.entry(index).shard] for index in range(40)]
        # One shard is settled every two seconds, and one is read every second.
        taken = [(await coordinator.take(ticket, most=9))["shard"] for ticket in range(3)]
        assert taken == order[:3]
        for index in range(5):
            now_s = float(index)
            await coordinator.record_read(index)
            if index in (2, 4):
                await coordinator.record_settled(taken.pop(0), 1)
        # One is still in flight: another one takes four seconds, and five entries are being read.
        assert await coordinator.take(3, most=9) == {"shard": order[9]}

    asyncio.run(scenario())


def test_no_call_waits_for_a_shard_after_the_end() -> None:
    async def scenario() -> None:
        names = ["a", "b"]
        coordinator = Coordinator(dict.fromkeys(names, 1), shards=2)
        await coordinator.offer({name: {"shard": name} for name in names}, Schedule(2, 1, 0), names)
        await coordinator.take(0, most=1)
        waiting = asyncio.create_task(coordinator.take(1, most=1))
        await asyncio.sleep(0)
        await coordinator.end_rewriting()
        with pytest.raises(RuntimeError, match="ended"):
            await asyncio.wait_for(waiting, 5)

    asyncio.run(scenario())


def test_a_shard_given_back_makes_room_and_is_taken_again_with_its_remaining_units() -> None:
    async def scenario() -> None:
        names = ("a", "b", "c")
        items = {name: {"shard": name} for name in names}
        coordinator = Coordinator(dict.fromkeys(names, 1), shards=3)
        schedule = Schedule(3, 1, 0)
        await coordinator.offer(items, schedule, names)
        first = (await coordinator.take(0, most=1))["shard"]
        waiting = asyncio.create_task(coordinator.take(1, most=1))
        await asyncio.sleep(0)
        await coordinator.give_back(first, {"shard": first, "units": "one"})
        assert await asyncio.wait_for(waiting, 5) == {"shard": first, "units": "one"}
        await coordinator.record_settled(first, 1)
        third = (await coordinator.take(2, most=1))["shard"]
        await coordinator.record_settled(third, 1)
        (last,) = set(names) - {first, third}
        await coordinator.offer({last: items[last]}, schedule, names)
        assert await asyncio.wait_for(coordinator.take(0, most=1), 5) == items[last]
        await coordinator.record_settled(last, 1)
        assert (await coordinator.progress(0.0))["rewritten_shards"] == 3

    asyncio.run(scenario())
