"""The commands of `laclip data`."""

import sys
from typing import Annotated

import typer
from rich.console import Console

from laclip_ray.cli.commands import Verb, group
from laclip_ray.cli.manner import manner
from laclip_ray.cli.options import ConfigArgument, OverridesArgument, console, read_experiment
from laclip_ray.errors import IncompleteError
from laclip_ray.printable import printable_line

data_app = group("Work with the dataset itself.")


@data_app.callback()
def _data() -> None:
    """Commands on the training data."""


@data_app.command("index", cls=Verb)
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


@data_app.command("check", cls=Verb)
def check(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    rows_per_shard: Annotated[int, typer.Option(min=1, help="Rows of each shard that are read.")] = 64,
    pictures: Annotated[bool, typer.Option("--pictures/--no-pictures", help="Read and decode pictures.")] = True,
) -> None:
    """Read some rows of every shard: counts, sizes, broken pictures, captions, names. Needs no Ray."""
    experiment = read_experiment(config, overrides)
    import json

    from rich.progress import Progress

    from laclip_ray.data.dataset_index import beside
    from laclip_ray.survey.checking import check_data
    from laclip_ray.survey.printing import print_check
    from laclip_ray.tally import first_names

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("shards", total=None)
        found = check_data(
            experiment.data, beside(experiment.output), rows_per_shard, pictures,
            lambda done, total: progress.update(task, completed=done, total=total),
        )  # fmt: skip
    if manner().json:
        typer.echo(json.dumps(found.to_json(), indent=2))
    else:
        print_check(console, found)
    if found.with_pictures and found.rows and not found.pictures.sizes:
        typer.echo(f"warning: none of the {found.rows:,} pictures read can be used; see the reasons", err=True)
    if found.unreadable:
        names = printable_line(first_names(found.unreadable))
        raise IncompleteError(
            f"data.path: {len(found.unreadable):,} of {found.shards:,} shards cannot be read ({names}); replace or "
            "remove them"
        )
