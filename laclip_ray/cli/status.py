"""`laclip status`: the verb."""

from pathlib import Path
from typing import Annotated

import typer

from laclip_ray.cli.ending import Ending, announce, finish
from laclip_ray.cli.options import OverridesArgument, console, read_experiment
from laclip_ray.cli.settings import remember
from laclip_ray.errors import UserError


def status(
    output: Annotated[
        str, typer.Argument(help="Output of an experiment, a directory or URL; or its YAML file.", metavar="OUTPUT")
    ],
    overrides: OverridesArgument = None,
) -> None:
    """Show how far the runs of an output are, and whether they seem alive. Reads files only; needs no cluster."""
    experiment = None
    if output.endswith((".yaml", ".yml")) or Path(output).is_file():
        experiment = read_experiment(output, overrides)
    elif overrides:
        raise UserError(f"{overrides[0]}: overrides change a config, and {output} is none; give the config")
    else:
        remember({"OUTPUT": output})
    announce(f"looking at {output}")
    from laclip_ray.status.outputs import Locations, find_locations, look_at
    from laclip_ray.status.printing import print_status

    locations = find_locations(output) if experiment is None else Locations.of(experiment)
    found = look_at(locations)
    parts = {name: part for name in locations.parts if (part := getattr(found, name)) is not None}
    states = ", ".join(f"{name} {part.state}" for name, part in parts.items())
    finish(
        Ending(f"{locations.output}: {states or 'no runs'}", locations.parts, found.to_json(), is_in_details=True),
        lambda: print_status(console, found),
    )
