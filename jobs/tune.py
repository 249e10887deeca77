"""`ray job submit --working-dir . -- python jobs/tune.py CONFIG [key=value ...]`: the same as `laclip tune`."""

import sys

from laclip_ray.cli import main

if __name__ == "__main__":
    main(["tune", *sys.argv[1:]])
