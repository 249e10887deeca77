"""Kill engines, actors and drivers of a rewriting run at random, and restart the run until it ends."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from laclip_ray.config import Experiment, load_experiment, to_yaml
from laclip_ray.errors import IncompleteError, UserError
from laclip_ray.rewriting.engines.engine import VllmEngine
from laclip_ray.rewriting.prompting.prompts import Prompt
from laclip_ray.rewriting.running.backlog import find_backlog
from laclip_ray.rewriting.running.pipeline import run_rewriting
from tests.integration.procedures import REPOSITORY, child_environment, engine_owners, engine_processes, wait_for
from tests.integration.scripted_engine import POISON, ProcessEngine


class MortalVllmEngine(VllmEngine):
    """A real engine. A caption with `POISON` in it kills its process."""

    async def generate(self, prompt: Prompt, count: int, request_id: str) -> Any:
        """See `laclip_ray.rewriting.engines.engine.Engine`."""
        if POISON in prompt.caption:
            for pid in engine_processes_of(os.getpid()):
                os.kill(pid, signal.SIGKILL)
        return await super().generate(prompt, count, request_id)


def engine_processes_of(pid: int) -> list[int]:
    """The engine processes of an actor, without helper processes."""
    children = psutil.Process(pid).children(recursive=True)
    return [child.pid for child in children if "resource_tracker" not in " ".join(child.cmdline())]


@dataclass(frozen=True)
class Chaos:
    """How a run with kills ended."""

    kills: Counter[str]
    """By victim. Each kill hit unfinished work."""
    starts: int
    """Starts of the driver."""
    exit_code: int
    """Exit code of the last driver."""
    processes_left: int
    output: str


def run_chaos(
    experiment: Experiment,
    victims: list[str],
    pause_s: float,
    seed: int,
    directory: Path,
    engine: str,
    address: str | None = None,
) -> Chaos:
    """Run `experiment` in a process of its own, and kill its parts.

    Args:
        experiment: the experiment to run.
        victims: the parts to kill, one after the other: `engine`, `actor` or `driver`.
        pause_s: mean time from the start of an engine's work to the kill.
        seed: decides the times.
        directory: gets the config and the log.
        engine: `process:PACE_S` or `vllm`.
        address: of a Ray to use. None: each driver starts one.
    """
    config, log = directory / "chaos.yaml", directory / "chaos.log"
    config.write_text(to_yaml(experiment))
    times = random.Random(seed)
    kills: Counter[str] = Counter()
    starts = 0

    def start() -> subprocess.Popen[bytes]:
        with log.open("ab") as file:
            command = [sys.executable, "-m", "tests.integration.chaos", str(config), engine]
            return subprocess.Popen(command, stdout=file, stderr=file, env=child_environment(address), cwd=REPOSITORY)

    driver = start()
    starts += 1
    killed_s = 0.0
    for victim in victims:
        wait_for(
            lambda: driver.poll() is not None or (_is_generating(experiment, killed_s) and engine_owners(0.5)),  # noqa: B023
            180,
            "an engine at work",
        )
        time.sleep(times.uniform(0.2, 1.8) * pause_s)
        assert driver.poll() is None, f"the run ended before the kills did:\n{log.read_text()[-3000:]}"
        owners = engine_owners(0.0)
        if victim == "driver":
            driver.kill()
            driver.wait()
            wait_for(lambda: not engine_processes(), 60, "the end of the killed driver's engine processes")
            driver = start()
            starts += 1
        elif owners:
            for pid in [owners[0].pid] if victim == "actor" else engine_processes_of(owners[0].pid):
                os.kill(pid, signal.SIGKILL)
        else:
            victim = "nothing"  # the engine had just died of another cause
        kills[victim] += 1
        killed_s = time.time()
        time.sleep(0.5)
    driver.wait(timeout=1_800)
    with suppress(AssertionError):
        wait_for(lambda: not engine_processes(), 30, "the end of every engine process")
    return Chaos(kills, starts, driver.returncode, len(engine_processes()), log.read_text())


def _is_generating(experiment: Experiment, since_s: float) -> bool:
    """Whether an attempt at a shard began after `since_s` and is not over."""
    attempts = Path(experiment.rewrite_output).glob("*/attempts/*.json")
    with suppress(FileNotFoundError):
        return any(path.stat().st_mtime > since_s for path in attempts)
    return False


def contents(experiment: Experiment) -> dict[str, dict[tuple[str, int, int], tuple[str | None, str | None]]]:
    """By prompt set: (id, slot, attempt) to (text, reason), over all committed shards. Each key must occur once."""
    contents_of: dict[str, dict[tuple[str, int, int], tuple[str | None, str | None]]] = {}
    for name, rewrite_set in find_backlog(experiment).sets.items():
        rows: dict[tuple[str, int, int], tuple[str | None, str | None]] = {}
        for shard, revision in rewrite_set.committed_revisions().items():
            for row in rewrite_set.read(shard, revision).to_pylist():
                key = (row["id"], row["draw"], row["attempt"])
                assert key not in rows, f"{key} twice"
                rows[key] = (row["text"], row["reason"])
        contents_of[name] = rows
    return contents_of


def main() -> None:
    """The driver: rewrite with the engine named on the command line."""
    config, engine = sys.argv[1:]
    name, _, pace_s = engine.partition(":")
    build: Any = MortalVllmEngine if name == "vllm" else partial(ProcessEngine, pace_s=float(pace_s))
    try:
        result = run_rewriting(load_experiment(config, []), build)
    except (UserError, IncompleteError) as error:
        print(f"error: {error}", flush=True)
        raise SystemExit(int(error.exit_code)) from error
    print(json.dumps(result.to_json()), flush=True)


if __name__ == "__main__":
    main()
