"""Arguments that most commands share, and the console they print to."""

import sys
from typing import Annotated

import typer
from rich.console import Console

from laclip_ray.cli.settings import remember
from laclip_ray.cluster import in_ray_job
from laclip_ray.config import Experiment, load_experiment, to_yaml, with_absolute_paths
from laclip_ray.terminal import OUT

console = Console(file=OUT, width=None if sys.stdout.isatty() else 120)
"""In a file or a log, where no terminal gives a width, tables are 120 columns wide."""

ConfigArgument = Annotated[str, typer.Argument(help="YAML file of the experiment.")]
OverridesArgument = Annotated[
    list[str] | None,
    typer.Argument(help="Dotted overrides, such as train.epochs=3.", metavar="[KEY=VALUE]..."),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print the resolved config and exit.")]


def read_experiment(config: str, overrides: list[str] | None, dry_run: bool = False) -> Experiment:
    """The experiment of a command, with absolute paths.

    A submitted job's relative outputs stay relative, and the command refuses them: they would be lost with the job's
    package directory.

    Raises:
        UserError: see `load_experiment`.
        typer.Exit: after a dry run has printed the config.
    """
    experiment = load_experiment(config, overrides or [])
    if dry_run:
        typer.echo(to_yaml(experiment), nl=False)
        raise typer.Exit
    experiment = with_absolute_paths(experiment, outputs=not in_ray_job(), in_package=in_ray_job())
    remember(experiment.model_dump(mode="json"))
    return experiment
