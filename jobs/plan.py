"""`ray job submit --working-dir . -- python jobs/plan.py CONFIG [key=value ...]`: the same as `laclip plan`."""

import sys

from laclip_ray.cli.process import run_process

if __name__ == "__main__":
    run_process(["plan", *sys.argv[1:]])
