"""The commands of `laclip checkpoint`."""

from typing import Annotated

import typer

from laclip_ray.cli.commands import Verb, group
from laclip_ray.config import ModelLayout

checkpoint_app = group("Import released checkpoints, and export models to others.")


@checkpoint_app.command("import", cls=Verb)
def import_model(
    file: Annotated[str, typer.Argument(help="A checkpoint released by the authors (.pt): path or URL.")],
    target: Annotated[str, typer.Argument(help="A new directory or URL. open_clip loads the result.")],
    model: Annotated[
        str | None,
        typer.Option(help="The model's name, as in model.name. Default: found by the shapes of its weights."),
    ] = None,
) -> None:
    """Convert a checkpoint of the paper's authors or of open_clip's training into one that open_clip loads."""
    from laclip_ray.models.importing import import_checkpoint

    imported = import_checkpoint(file, target, model)
    epoch = f", epoch {imported.epoch}" if imported.epoch is not None else ""
    typer.echo(f"{target}: {imported.model} (the file has the {imported.layout} layout{epoch})")
    if imported.lookalike is not None:
        typer.echo(
            f"{imported.model} was found by its shapes, and {imported.lookalike} has the same ones; if the file holds "
            f"that model, import it again with --model {imported.lookalike}"
        )


@checkpoint_app.command("export", cls=Verb)
def export_model(
    source: Annotated[str, typer.Argument(help="The export or a checkpoint of a training run, or an import.")],
    target: Annotated[str, typer.Argument(help="A new directory or URL.")],
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
    from laclip_ray.models.exporting import export_checkpoint

    has_lineage = export_checkpoint(source, target, layout, home)
    typer.echo(f"{target}: README.md explains how to load it")
    if not has_lineage:
        typer.echo(f"{source} does not say what it was made from, so lineage.json does not say it either")
