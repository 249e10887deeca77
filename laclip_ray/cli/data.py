"""The commands of `laclip data`."""

import sys
from typing import Annotated

import typer
from rich.console import Console

from laclip_ray.cli.ending import Ending, announce, finish, record
from laclip_ray.cli.manner import manner
from laclip_ray.cli.next_steps import Given, after_check
from laclip_ray.cli.options import ConfigArgument, OverridesArgument, console, read_experiment, say
from laclip_ray.errors import IncompleteError
from laclip_ray.printable import printable_line


def index(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    output: Annotated[
        str | None,
        typer.Option(help="Path or URL of the index. Default: data.index, else data-index.parquet in `output`."),
    ] = None,
) -> None:
    """List the data once and write its shards, row counts and identities, which every verb then starts from."""
    experiment = read_experiment(config, overrides, reads=("data",))
    announce(f"{config}: listing {_paths(experiment.data.path)}")
    from laclip_ray.data.dataset_index import beside
    from laclip_ray.data.indexing import make_index
    from laclip_ray.tally import first_names

    url = output or experiment.data.index or beside(experiment.output)
    indexed = make_index(experiment.data, url)

    def details() -> None:
        if indexed.before is not None:
            say(printable_line(indexed.before.describe()))
        for reason, count in indexed.uncounted.counts.items():
            names = [*indexed.uncounted.names[reason], *[""] * (count - len(indexed.uncounted.names[reason]))]
            say(printable_line(f"{count:,} shards are not counted ({reason}): {first_names(names)}"))

    finish(
        Ending(
            f"{url}: {indexed.shards:,} shards, {indexed.rows:,} rows",
            {"index": url},
            {"shards": indexed.shards, "rows": indexed.rows, "uncounted": indexed.uncounted.counts},
            after_check(Given(config, overrides or ())),
        ),
        details,
    )


def check(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    rows_per_shard: Annotated[int, typer.Option(min=1, help="Rows of each shard that are read.")] = 64,
    pictures: Annotated[bool, typer.Option("--pictures/--no-pictures", help="Read and decode pictures.")] = True,
) -> None:
    """Read some rows of every shard: counts, sizes, broken pictures, captions, names. Needs no Ray."""
    experiment = read_experiment(config, overrides, reads=("data",))
    announce(f"{config}: reading {_paths(experiment.data.path)}")
    from rich.progress import Progress

    from laclip_ray.data.dataset_index import beside
    from laclip_ray.survey.checking import check_data
    from laclip_ray.survey.printing import print_check
    from laclip_ray.tally import first_names

    is_shown = sys.stderr.isatty() and not manner().quiet
    with Progress(console=Console(stderr=True), transient=True, disable=not is_shown) as progress:
        task = progress.add_task("shards", total=None)
        found = check_data(
            experiment.data, beside(experiment.output), rows_per_shard, pictures,
            lambda done, total: progress.update(task, completed=done, total=total),
        )  # fmt: skip
    if found.with_pictures and found.rows and not found.pictures.sizes:
        print(f"warning: none of the {found.rows:,} pictures read can be used; see the reasons", file=sys.stderr)
    if found.unreadable:
        record(summary=found.to_json())
        print_check(console, found)
        names = printable_line(first_names(found.unreadable))
        raise IncompleteError(
            f"data.path: {len(found.unreadable):,} of {found.shards:,} shards cannot be read ({names}); replace or "
            "remove them"
        )
    finish(
        Ending(
            f"{config}: read {found.rows:,} rows of {found.shards:,} shards, counted {found.problems.counts.total():,} "
            "problems",
            {"data": _paths(experiment.data.path)},
            found.to_json(),
            after_check(Given(config, overrides or ())),
        ),
        lambda: print_check(console, found),
    )


def _paths(path: str | list[str]) -> str:
    return path if isinstance(path, str) else ", ".join(path)
