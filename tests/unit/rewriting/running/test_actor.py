"""An engine is started with retries, and an error of one shard is that shard's failure."""

import asyncio
from typing import Any, cast

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.rewriting.engines.engine import Engine, EngineStartError
from laclip_ray.rewriting.engines.work import EngineWork
from laclip_ray.rewriting.running.actor import RewritingActor, start_engine
from laclip_ray.rewriting.tables import MADE_SCHEMA, SAMPLES_SCHEMA, Origin, WorkUnit, stream_row
from tests.cases import case

ENGINE = cast(Engine, object())


class Build:
    """Fails a number of times, then gives an engine. Each call takes some time."""

    def __init__(self, failures: float, takes_s: float = 0.0) -> None:
        self.failures = failures
        self.takes_s = takes_s
        self.calls = 0
        self.now_s = 0.0

    def __call__(self) -> Engine:
        self.calls += 1
        self.now_s += self.takes_s
        if self.calls <= self.failures:
            raise EngineStartError("memory is still held")
        return ENGINE

    def start(self, timeout_s: float) -> Engine:
        """Start the engine with a simulated clock."""

        def sleep(pause_s: float) -> None:
            self.now_s += pause_s

        return start_engine(self, timeout_s, sleep=sleep, clock=lambda: self.now_s)


def test_a_lost_engine_is_started_until_it_is_up() -> None:
    build = Build(failures=7)
    assert build.start(600.0) is ENGINE
    assert build.calls == 8


def test_a_failed_first_start_is_not_retried() -> None:
    build = Build(failures=1)
    with pytest.raises(EngineStartError):
        build.start(0.0)
    assert build.calls == 1


@given(timeout_s=st.floats(1.0, 10_000.0), takes_s=st.floats(0.0, 300.0))
def test_the_last_start_begins_when_the_time_is_over(timeout_s: float, takes_s: float) -> None:
    build = Build(failures=float("inf"), takes_s=takes_s)
    with pytest.raises(EngineStartError, match="still held"):
        build.start(timeout_s)
    assert timeout_s <= build.now_s + 1e-6
    assert build.now_s - takes_s <= max(timeout_s, takes_s) + 1e-6


class BrokenGenerator:
    """Cannot record attempts."""

    async def generate(self, *_: object) -> pa.Table:
        raise PermissionError("attempts/a.json")


@case(
    "Reading data",
    "a shard whose attempts cannot be recorded (a refused write)",
    "that shard fails with the cause; the engine draws the others",
    exit_code=3,
)
def test_an_error_of_one_shard_is_its_failure_and_the_actor_lives() -> None:
    actor = object.__new__(RewritingActor)
    values: dict[str, Any] = {"_engine": None, "_generator": BrokenGenerator()}
    vars(actor).update(values)
    unit, origin = WorkUnit("cleaned", "a\x1b.tar", 0), Origin("identity", "inputs", 1)
    (row,) = stream_row(unit, origin, SAMPLES_SCHEMA.empty_table()).to_pylist()
    asyncio.run(actor._generate(row))
    assert row["failure"] == "cannot be rewritten: PermissionError: attempts/a.json"
    assert row["made"] is None


def test_the_start_of_an_engine_counts_once() -> None:
    actor = object.__new__(RewritingActor)
    values: dict[str, Any] = {"_engine": None, "_work": EngineWork("1 x GPU", 16, start_s=40.0)}
    vars(actor).update(values)
    rows: list[dict[str, Any]] = [{"engine_s": 60.0}, {"engine_s": 10.0}]
    for row in rows:
        actor._count(row, MADE_SCHEMA.empty_table())
    counted = [EngineWork.from_json(row["engine_work"]) for row in rows]
    assert counted == [EngineWork("1 x GPU", 16, 60.0, 40.0), EngineWork("1 x GPU", 16, 10.0)]
