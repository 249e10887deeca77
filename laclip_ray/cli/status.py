"""`laclip status`: the verb."""

import json
from pathlib import Path
from typing import Annotated

import typer

from laclip_ray.cli.manner import manner
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
    from laclip_ray.redaction import redacted
    from laclip_ray.status.outputs import Locations, find_locations, look_at
    from laclip_ray.status.printing import print_status

    if output.endswith((".yaml", ".yml")) or Path(output).is_file():
        locations = Locations.of(read_experiment(output, overrides))
    elif overrides:
        raise UserError(f"{overrides[0]}: overrides change a config, and {output} is none; give the config")
    else:
        remember({"OUTPUT": output})
        locations = find_locations(output)
    found = look_at(locations)
    if manner().json:
        typer.echo(json.dumps(redacted(found.to_json()), indent=2))
    else:
        print_status(console, found)
