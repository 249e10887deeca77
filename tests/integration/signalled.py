"""The command line with an engine that needs no model: `python -m tests.integration.signalled PACE_S VERB CONFIG ...`.

Tests and figures send it signals. An answer of the engine takes PACE_S.
"""

import sys
from functools import partial
from typing import Any

from laclip_ray.cli import main


def use_scripted_engine(pace_s: float) -> None:
    """Replace the engine of every verb in this process."""
    from laclip_ray.onejob import run as onejob
    from laclip_ray.rewriting.running import pipeline
    from laclip_ray.tuning import sweep
    from tests.integration.scripted_engine import ProcessEngine

    engine: Any = partial(ProcessEngine, pace_s=pace_s)
    rewriting = partial(pipeline.run_rewriting, build_engine=engine)
    setattr(pipeline, "run_rewriting", rewriting)  # noqa: B010 - replaces functions for this process alone
    setattr(sweep, "run_rewriting", rewriting)  # noqa: B010 - as above
    setattr(onejob, "run_one_job", partial(onejob.run_one_job, build_engine=engine))  # noqa: B010 - as above


if __name__ == "__main__":
    use_scripted_engine(float(sys.argv[1]))
    main(sys.argv[2:])
