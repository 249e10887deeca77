"""A driver of its own for the figures: `python -m tests.figures.tuning_run CONFIG`; rewrites with a scripted engine."""

import sys

from laclip_ray.config import load_experiment
from laclip_ray.errors import IncompleteError, UserError
from laclip_ray.rewriting.running.pipeline import run_rewriting
from laclip_ray.tuning.sweep import run_sweep
from tests.integration.scripted_engine import ScriptedEngine

if __name__ == "__main__":
    experiment = load_experiment(sys.argv[1])
    try:
        run_rewriting(experiment, ScriptedEngine)
        run_sweep(experiment)
    except (UserError, IncompleteError) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        raise SystemExit(int(error.exit_code)) from error
