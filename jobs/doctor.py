"""`ray job submit --working-dir . -- python jobs/doctor.py CONFIG [key=value ...]`: the same as `laclip doctor`."""

import sys

from laclip_ray.cli.process import run_process

if __name__ == "__main__":
    run_process(["doctor", *sys.argv[1:]])
