"""`ray job submit --working-dir . -- python jobs/run.py CONFIG [key=value ...]`: the same as `laclip run`."""

import sys

from laclip_ray.cli.process import run_process

if __name__ == "__main__":
    run_process(["run", *sys.argv[1:]])
