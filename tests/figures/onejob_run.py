"""A driver of its own for the figures, with an observer: `python -m tests.figures.onejob_run CONFIG ENGINE SEEN`.

The observer asks Ray for the engines' actors each half second.
"""

import json
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from laclip_ray.config import load_experiment
from laclip_ray.onejob.run import run_one_job
from laclip_ray.rewriting.engines.engine import VllmEngine
from tests.integration.scripted_engine import ProcessEngine, ScriptedEngine


class Observer(threading.Thread):
    """Looks at Ray's own list of actors."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.alive: list[tuple[float, int]] = []
        """Unix time in seconds, and the engines' actors that were not dead."""
        self._names: set[str] = set()

    def run(self) -> None:
        while True:
            time.sleep(0.5)
            self._look()

    def to_json(self) -> dict[str, Any]:
        """What was seen."""
        return {"engines": len(self._names), "alive": self.alive}

    def _look(self) -> None:
        import ray
        from ray._private import state  # ray.util.state asks the dashboard, which not every Ray has

        if not ray.is_initialized():
            return
        actors: Any = state.actors()
        engines = {name: each for name, each in actors.items() if "RewritingActor" in each["ActorClassName"]}
        self._names |= engines.keys()
        self.alive.append((time.time(), sum(each["State"] != "DEAD" for each in engines.values())))


if __name__ == "__main__":
    config, engine, seen = sys.argv[1:]
    name, _, pace_s = engine.partition(":")
    builds: dict[str, Any] = {
        "vllm": VllmEngine,
        "process": partial(ProcessEngine, pace_s=float(pace_s or 0)),
        "sleeping": partial(ScriptedEngine, delay_s=float(pace_s or 0)),
    }
    observer = Observer()
    observer.start()
    run_one_job(load_experiment(config, []), builds[name])
    Path(seen).write_text(json.dumps(observer.to_json()))
