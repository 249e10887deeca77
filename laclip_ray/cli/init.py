"""`laclip init`: from a folder of pictures to a config."""

from typing import Annotated

import typer

from laclip_ray.cli.settings import remember


def init(
    data: Annotated[str, typer.Argument(help="A file, directory, glob or URL of pictures with captions.")],
    output: Annotated[str | None, typer.Option(help="The config to write. Default: NAME.yaml, by the data.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing config.")] = False,
) -> None:
    """Look at data, say what is found, and write a config that reads it."""
    remember({"data": data})
    from laclip_ray.survey.describing import describe
    from laclip_ray.survey.starting import start

    started = start(data, output, force)
    for line in describe(started.facts):
        typer.echo(line)
    typer.echo(f"\nwritten: {started.config}. Look at it, then run")
    typer.echo(f"  laclip data check {started.config}        # a sample of every shard")
    typer.echo(f"  laclip rewrites preview {started.config}  # a few rewrites, and what all of them will take")
