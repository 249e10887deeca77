"""`ray job submit --working-dir . -- python jobs/evaluate.py CONFIG [key=value ...]`: the same as `laclip evaluate`."""

import sys

from laclip_ray.cli import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])
