"""The commands of `laclip prompts`."""

from typing import Annotated

import typer

from laclip_ray.cli.ending import Ending, announce, finish
from laclip_ray.cli.next_steps import Given
from laclip_ray.cli.options import console, say


def list_prompts() -> None:
    """List the built-in prompt sets."""
    from rich.table import Table

    from laclip_ray.rewriting.prompting.prompts import built_in_prompt_sets, load_prompt_set

    found = [load_prompt_set(name) for name in built_in_prompt_sets()]
    table = Table("prompt set", "pairs", "description")
    for prompt_set in found:
        table.add_row(prompt_set.name, str(len(prompt_set.pairs)), prompt_set.description)
    finish(
        Ending(
            f"{len(found)} prompt sets come with the package: {', '.join(each.name for each in found)}",
            summary={each.name: {"pairs": len(each.pairs), "description": each.description} for each in found},
            is_in_details=True,
        ),
        lambda: console.print(table),
    )


def import_prompts(
    file: Annotated[str, typer.Argument(help="Python file that assigns lists of captions. It is not executed.")],
    output: Annotated[
        str | None, typer.Option(help="YAML file to write. Default: NAME.yaml in the current directory.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The set's name. Default: from the names of the lists.")] = None,
    source: Annotated[str | None, typer.Option(help="Name of the list of captions to rewrite.")] = None,
    target: Annotated[str | None, typer.Option(help="Name of the list of their rewrites.")] = None,
    groups: Annotated[
        str | None, typer.Option(help="Name of the list of groups of captions; a group is of one picture.")
    ] = None,
    pairs: Annotated[str | None, typer.Option(help="Name of the list of (source, target).")] = None,
    seed: Annotated[int, typer.Option(help="Decides which pair is drawn from each group.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing output file.")] = False,
    all_pairs: Annotated[
        bool, typer.Option("--all-pairs", help="Take all ordered pairs of each group, not one drawn pair.")
    ] = False,
) -> None:
    """Make a prompt set from a Python file that lists captions."""
    announce(f"reading {file}")
    from laclip_ray.rewriting.prompting.prompt_import import Selection, import_prompt_set

    selection = Selection(source=source, target=target, groups=groups, pairs=pairs)
    imported, path = import_prompt_set(file, selection, output, name, seed, force, all_pairs)
    sets = f"rewrite.prompt_sets=[{path}]"

    def details() -> None:
        if imported.joined_texts:
            say(f"{imported.joined_texts} texts had several lines; line breaks became spaces")

    finish(
        Ending(
            f"{path}: {len(imported.prompt_set.pairs)} pairs; use it with '{sets}'",
            {"prompt_set": str(path)},
            {"pairs": len(imported.prompt_set.pairs), "joined_texts": imported.joined_texts},
            [Given("CONFIG", [sets]).preview()],
        ),
        details,
    )
