"""`laclip version`: the verb."""

from laclip_ray import __version__
from laclip_ray.cli.ending import Ending, finish


def version() -> None:
    """Print the version."""
    finish(Ending(__version__, summary={"version": __version__}))
