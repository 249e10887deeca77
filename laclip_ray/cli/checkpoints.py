"""The commands of `laclip checkpoint`."""

from typing import Annotated

import typer

from laclip_ray.choices import ModelLayout
from laclip_ray.cli.ending import Ending, announce, finish
from laclip_ray.cli.next_steps import after_model
from laclip_ray.cli.options import say


def import_model(
    file: Annotated[
        str, typer.Argument(help="A checkpoint released by the authors (.pt): path or URL.", metavar="FILE")
    ],
    target: Annotated[
        str, typer.Argument(help="A new directory or URL. open_clip loads the result.", metavar="TARGET")
    ],
    model: Annotated[
        str | None,
        typer.Option(help="The model's name, as in model.name. Default: found by the shapes of its weights."),
    ] = None,
) -> None:
    """Convert a checkpoint of the paper's authors or of open_clip's training into one that open_clip loads."""
    announce(f"{file} -> {target}")
    from laclip_ray.models.importing import import_checkpoint

    imported = import_checkpoint(file, target, model)
    epoch = f", epoch {imported.epoch}" if imported.epoch is not None else ""

    def details() -> None:
        if imported.lookalike is not None:
            say(
                f"{imported.model} was found by its shapes, and {imported.lookalike} has the same ones; if the file "
                f"holds that model, import it again with --model {imported.lookalike}"
            )

    finish(
        Ending(
            f"{target}: {imported.model} (the file has the {imported.layout} layout{epoch})",
            {"model": target},
            {"imported": imported},
            after_model(target),
        ),
        details,
    )


def export_model(
    source: Annotated[
        str, typer.Argument(help="The export or a checkpoint of a training run, or an import.", metavar="SOURCE")
    ],
    target: Annotated[str, typer.Argument(help="A new directory or URL.", metavar="TARGET")],
    layout: Annotated[ModelLayout, typer.Option(help="For open_clip (every model) or for transformers.")] = "open_clip",
    home: Annotated[
        str | None,
        typer.Option(
            help="Where users will load it from: hf-hub:ORGANISATION/NAME or local-dir:/PATH. With its home, a "
            "laclip_vit model needs open_clip alone."
        ),
    ] = None,
) -> None:
    """Write a model with a model card and its lineage, for other people to load."""
    announce(f"{source} -> {target}")
    from laclip_ray.models.exporting import export_checkpoint

    has_lineage = export_checkpoint(source, target, layout, home)

    def details() -> None:
        if not has_lineage:
            say(f"{source} does not say what it was made from, so lineage.json does not say it either")

    finish(
        Ending(
            f"{target}: README.md explains how to load it",
            {"model": target},
            {"layout": layout, "has_lineage": has_lineage},
        ),
        details,
    )
