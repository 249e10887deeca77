"""`laclip init`: from a folder of pictures to a config."""

from typing import Annotated

import typer

from laclip_ray.cli.ending import Ending, announce, finish
from laclip_ray.cli.next_steps import Given, after_init
from laclip_ray.cli.options import say
from laclip_ray.cli.settings import remember


def init(
    data: Annotated[
        str, typer.Argument(help="A file, directory, glob or URL of pictures with captions.", metavar="DATA")
    ],
    output: Annotated[str | None, typer.Option(help="The config to write. Default: NAME.yaml, by the data.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing config.")] = False,
) -> None:
    """Look at data, report on it, and write a config that reads it."""
    remember({"data": data})
    announce(f"looking at {data}")
    from laclip_ray.survey.describing import describe
    from laclip_ray.survey.starting import start

    started = start(data, output, force)
    lines = [*describe(started.facts)]

    def details() -> None:
        for line in lines:
            say(line)

    finish(
        Ending(
            f"written: {started.config}",
            {"config": started.config, "data": data},
            {
                "format": started.facts.format,
                "files": started.facts.files,
                "shards": started.facts.shards,
                "samples": started.facts.rows.count,
                "has_pictures": started.facts.image is not None,
                "found": lines,
            },
            after_init(Given(started.config)),
        ),
        details,
    )
