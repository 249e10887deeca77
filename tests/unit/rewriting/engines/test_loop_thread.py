"""Work in a loop's thread gives its result or its error, also an error that ends the loop."""

import asyncio
import threading

import pytest

from laclip_ray.rewriting.engines.loop_thread import run_in_thread


async def _fail(error: BaseException) -> None:
    await asyncio.sleep(0.01)
    raise error


async def _work(error: BaseException | None = None) -> int:
    others = [asyncio.sleep(60)] if error else []
    await asyncio.gather(*([_fail(error)] if error else []), *others)
    return 7


def test_the_result_is_that_of_the_work() -> None:
    assert run_in_thread(_work()) == 7


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3)])
def test_an_error_of_one_task_ends_the_work_and_the_thread(error: BaseException) -> None:
    before = threading.active_count()
    with pytest.raises(type(error)):
        run_in_thread(_work(error))
    assert threading.active_count() == before
