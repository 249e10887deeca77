"""A process that tells the real trackers of a run, and ends it or kills itself.

    python -m tests.integration.tracked_process OUTPUT FROM_STEP LAST_STEP end|kill

It resumes after FROM_STEP, whose earlier steps are on record.
"""

import io
import os
import signal
import sys
import time

from PIL import Image

from laclip_ray.config import TrackerName, parse_experiment
from laclip_ray.tracking.choice import begin_trackers, check_trackers
from laclip_ray.tracking.tracker import Cell, Outcome, Picture, Table

NAMES: tuple[TrackerName, ...] = ("tensorboard", "wandb", "trackio", "mlflow")
HOSTILE = "a | b </script><script>alert(1)</script> \u202e {{ 7 * 7 }}"
SECRET = "password-of-nobody"  # noqa: S105
_KILLED_AFTER_S = 20.0
"""By then every tracker has begun and taken the steps, in its own time."""


def main() -> None:
    """Run it."""
    output, from_step, last_step, end = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    experiment = parse_experiment(
        {
            **{"name": "real", "output": output, "data": {"path": f"s3://key:{SECRET}@bucket/data"}},
            "track": {"report_to": [*NAMES], "tags": ["test"]},
        }
    )
    check_trackers(experiment.track, experiment.output)
    trackers = begin_trackers(experiment, "train", f"{output}/train", {"rewrite_sets": ["f00d"]}, from_step)
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(buffer, "JPEG")
    rows: list[list[Cell]] = [
        [Picture(buffer.getvalue()), HOSTILE, 0.5],
        [None, f"seen at https://me:{SECRET}@host/x", None],
    ]
    trackers.table(lambda: Table("samples", ["picture", "caption", "score"], rows), only_first=True)
    trackers.catch_up([(step, {"train/epoch": step / 10}) for step in range(1, from_step + 1)])
    for step in range(from_step + 1, last_step + 1):
        trackers.scalars(step, {"train/epoch": step / 10, "train/loss": 1 / step})
    if end == "kill":
        time.sleep(_KILLED_AFTER_S)
        os.kill(os.getpid(), signal.SIGKILL)
    trackers.summary({"top1": 0.25})
    trackers.end(Outcome.FINISHED)


if __name__ == "__main__":
    main()
