"""`ray job submit --working-dir . -- python jobs/evaluate.py CONFIG [key=value ...]`: the same as `laclip evaluate`."""

import sys

from laclip_ray.cli.process import run_process

if __name__ == "__main__":
    run_process(["evaluate", *sys.argv[1:]])
