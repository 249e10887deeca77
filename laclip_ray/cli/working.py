"""Show the progress of a verb, as the common options ask."""

from contextlib import AbstractContextManager

from laclip_ray.cli.manner import manner


def working(verb: str, output: str | None = None) -> AbstractContextManager[None]:
    """Show the progress of the body, and keep the lines of Ray, vLLM and torch in a log.

    Args:
        verb: names the log file.
        output: its `logs/` gets the log once work has begun. None: a log stays only if the verb fails.
    """
    from laclip_ray.live.watching import watch

    return watch(verb, output, is_quiet=manner().quiet, shows_all=manner().debug)
