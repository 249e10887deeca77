"""`ray job submit --working-dir . -- python jobs/tune.py CONFIG [key=value ...]`: the same as `laclip tune`."""

import sys

from laclip_ray.cli.process import run_process

if __name__ == "__main__":
    run_process(["tune", *sys.argv[1:]])
