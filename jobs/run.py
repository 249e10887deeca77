"""`ray job submit --working-dir . -- python jobs/run.py CONFIG [key=value ...]`: the same as `laclip run`."""

import sys

from laclip_ray.cli import main

if __name__ == "__main__":
    main(["run", *sys.argv[1:]])
