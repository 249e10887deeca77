"""`python -m laclip_ray VERB ...`: the same as `laclip VERB ...`."""

from laclip_ray.cli import main

if __name__ == "__main__":
    main()
