"""`ray job submit --working-dir . -- python jobs/train.py CONFIG [key=value ...]`: the same as `laclip train`."""

import sys

from laclip_ray.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
