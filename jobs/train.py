"""`ray job submit --working-dir . -- python jobs/train.py CONFIG [key=value ...]`: the same as `laclip train`."""

import sys

from laclip_ray.cli.process import run_process

if __name__ == "__main__":
    run_process(["train", *sys.argv[1:]])
