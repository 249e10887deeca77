"""`ray job submit --working-dir . -- python jobs/doctor.py CONFIG [key=value ...]`: the same as `laclip doctor`."""

import sys

from laclip_ray.cli import main

if __name__ == "__main__":
    main(["doctor", *sys.argv[1:]])
