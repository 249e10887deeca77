"""Arguments that most commands share, the console they print to, and the config they read.

This module imports no library but typer and rich, so help and completion answer at once.
"""

import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from laclip_ray.cli.manner import manner
from laclip_ray.cli.settings import remember
from laclip_ray.endings.job_log import in_ray_job
from laclip_ray.terminal import OUT

if TYPE_CHECKING:
    from laclip_ray.config import Experiment

console = Console(file=OUT, width=None if sys.stdout.isatty() else 120)
"""For people: silent under `--json` and `--quiet`. In a file or a log, where no terminal gives a width, tables are 120
columns wide."""

ConfigArgument = Annotated[str, typer.Argument(help="YAML file of the experiment.", metavar="CONFIG")]
OverridesArgument = Annotated[
    list[str] | None,
    typer.Argument(help="Dotted overrides, such as train.epochs=3.", metavar="KEY=VALUE"),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print the resolved config and exit.")]


def read_experiment(
    config: str, overrides: list[str] | None, dry_run: bool = False, reads: tuple[str, ...] = ()
) -> "Experiment":
    """The experiment of a command, with absolute paths.

    A submitted job's relative outputs stay relative, and the command refuses them: they would be lost with the job's
    package directory.

    Args:
        config: path of the YAML file.
        overrides: dotted overrides.
        dry_run: print the config and end the command.
        reads: sections of the config whose local paths have to exist, such as `data`.

    Raises:
        UserError: see `load_experiment` and `check_inputs`.
        typer.Exit: after a dry run has printed the config.
    """
    from laclip_ray.cli.inputs import check_inputs
    from laclip_ray.config import load_experiment, to_yaml, with_absolute_paths

    experiment = load_experiment(config, overrides or [])
    if dry_run:
        if manner().json:
            from laclip_ray.cli.ending import record

            record(summary={"config": experiment})
        else:
            typer.echo(to_yaml(experiment), nl=False)
        raise typer.Exit
    experiment = with_absolute_paths(experiment, outputs=not in_ray_job(), in_package=in_ray_job())
    remember(experiment.model_dump(mode="json"))
    check_inputs(experiment, reads)
    return experiment


def say(text: str) -> None:
    """Print a line that may hold texts from data, for people."""
    from laclip_ray.logs import clean

    console.print(clean(text), markup=False, emoji=False, highlight=False, soft_wrap=True)
