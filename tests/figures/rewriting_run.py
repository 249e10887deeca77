"""A driver of its own for the figures: `python -m tests.figures.rewriting_run CONFIG seeded|vllm`.

The moment when the engine can answer is that of the file which `LACLIP_FIGURES_READY` names.
"""

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from laclip_ray.config import RewriteConfig, load_experiment
from laclip_ray.rewriting.engines.engine import Engine, VllmEngine
from laclip_ray.rewriting.running.pipeline import run_rewriting
from tests.integration.scripted_engine import SeededEngine


def build_and_tell(rewrite: RewriteConfig, seed: int, kind: Any, ready: str) -> Engine:
    """An engine, after which the ready file is there."""
    engine: Engine = kind(rewrite, seed)
    Path(ready).touch()
    return engine


if __name__ == "__main__":
    config, name = sys.argv[1:]
    kinds: dict[str, Any] = {"seeded": SeededEngine, "vllm": VllmEngine}
    ready = os.environ["LACLIP_FIGURES_READY"]
    from tests.figures.rewriting_run import build_and_tell as build  # by name, as a worker imports it

    run_rewriting(load_experiment(config, []), partial(build, kind=kinds[name], ready=ready))
