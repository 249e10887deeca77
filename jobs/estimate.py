"""`ray job submit --working-dir . -- python jobs/estimate.py CONFIG [key=value ...]`: the same as `laclip estimate`."""

import sys

from laclip_ray.cli import main

if __name__ == "__main__":
    main(["estimate", *sys.argv[1:]])
