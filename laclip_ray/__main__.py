"""`python -m laclip_ray VERB ...`: the same as `laclip VERB ...`."""

from laclip_ray.cli.process import run_process

if __name__ == "__main__":
    run_process()
