"""The commands of `laclip data`."""

from typing import Annotated

import typer

from laclip_ray.cli.options import ConfigArgument, OverridesArgument, read_experiment
from laclip_ray.printable import printable_line

data_app = typer.Typer(no_args_is_help=True, help="Work with the dataset itself.")


@data_app.callback()
def _data() -> None:
    """A group, though it has one command."""


@data_app.command("index")
def index(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    output: Annotated[
        str | None,
        typer.Option(help="Path or URL of the index. Default: data.index, else data-index.parquet in `output`."),
    ] = None,
) -> None:
    """List the data once and write its shards, row counts and identities, which every verb then starts from."""
    experiment = read_experiment(config, overrides)
    from laclip_ray.data.dataset_index import beside
    from laclip_ray.data.indexing import make_index
    from laclip_ray.tally import first_names

    url = output or experiment.data.index or beside(experiment.output)
    indexed = make_index(experiment.data, url)
    typer.echo(printable_line(f"{url}: {indexed.shards:,} shards, {indexed.rows:,} rows"))
    if indexed.before is not None:
        typer.echo(printable_line(indexed.before.describe()))
    for reason, count in indexed.uncounted.counts.items():
        names = [*indexed.uncounted.names[reason], *[""] * (count - len(indexed.uncounted.names[reason]))]
        typer.echo(printable_line(f"{count:,} shards are not counted ({reason}): {first_names(names)}"))
