"""`ray job submit --working-dir . -- python jobs/estimate.py CONFIG [key=value ...]`: the same as `laclip estimate`."""

import sys

from laclip_ray.cli.process import run_process

if __name__ == "__main__":
    run_process(["estimate", *sys.argv[1:]])
