"""`ray job submit --working-dir . -- python jobs/rewrite.py CONFIG [key=value ...]`: the same as `laclip rewrite`."""

import sys

from laclip_ray.cli import main

if __name__ == "__main__":
    main(["rewrite", *sys.argv[1:]])
