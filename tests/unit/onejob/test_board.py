"""The board: who waits for what, and what it says."""

import asyncio

from laclip_ray.onejob.board import Board


def test_who_waits_for_a_shard_goes_on_when_its_last_prompt_set_is_settled() -> None:
    async def scenario() -> None:
        board = Board({"a": 2, "b": 1}, shards=3)
        waiting = asyncio.create_task(board.wait(["a"]))
        await board.settle("a", 10)
        await board.settle("b", 5)
        await asyncio.sleep(0)
        assert not waiting.done()
        await board.settle("a", 10)
        await asyncio.wait_for(waiting, 5)

    asyncio.run(scenario())


def test_nobody_waits_for_what_was_there_at_the_start_or_after_the_end() -> None:
    async def scenario() -> None:
        board = Board({"a": 1, "b": 1}, shards=3)
        await asyncio.wait_for(board.wait(["c"]), 5)
        waiting = asyncio.create_task(board.wait(["a", "b"]))
        await asyncio.sleep(0)
        await board.end()
        await asyncio.wait_for(waiting, 5)

    asyncio.run(scenario())


def test_a_shard_settled_once_too_often_counts_once() -> None:
    async def scenario() -> None:
        board = Board({"a": 1, "b": 1}, shards=2)
        await board.settle("a", 1)
        await board.settle("a", 1)
        assert (await board.state(0.0))["rewritten_shards"] == 1

    asyncio.run(scenario())


def test_the_lag_is_what_training_has_reached_and_rewriting_has_not() -> None:
    async def scenario() -> None:
        board = Board({str(number): 1 for number in range(8)}, shards=10)
        await board.settle("0", 4)
        found = {epoch: await board.state(epoch) for epoch in (0.1, 0.5, 1.7)}
        assert [state["rewritten_shards"] for state in found.values()] == [3, 3, 3]
        assert [state["lag_shards"] for state in found.values()] == [0, 2, 7]

    asyncio.run(scenario())


def test_the_timeline_has_events_with_the_shards_rewritten_by_then() -> None:
    async def scenario() -> None:
        board = Board({"a": 1, "b": 1}, shards=2)
        await board.settle("a", 0)
        await board.note("something")
        await board.settle("b", 0)
        await board.end()
        timeline = await board.timeline()
        assert [(each["event"], each["rewritten_shards"]) for each in timeline] == [
            ("1 of 2 shards rewritten", 1),
            ("something", 1),
            ("2 of 2 shards rewritten", 2),
            ("rewriting has ended", 2),
        ]

    asyncio.run(scenario())
