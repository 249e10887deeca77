"""`ray job submit --working-dir . -- python jobs/plan.py CONFIG [key=value ...]`: the same as `laclip plan`."""

import sys

from laclip_ray.cli import main

if __name__ == "__main__":
    main(["plan", *sys.argv[1:]])
