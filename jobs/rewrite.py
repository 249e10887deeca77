"""`ray job submit --working-dir . -- python jobs/rewrite.py CONFIG [key=value ...]`: the same as `laclip rewrite`."""

import sys

from laclip_ray.cli.process import run_process

if __name__ == "__main__":
    run_process(["rewrite", *sys.argv[1:]])
