"""The commands of `laclip gate`."""

from typing import TYPE_CHECKING, Annotated

import typer

from laclip_ray.cli.ending import Ending, announce, finish
from laclip_ray.cli.options import console, read_experiment
from laclip_ray.errors import UserError
from laclip_ray.printable import printable_line

if TYPE_CHECKING:
    from laclip_ray.rewriting.scoring.gate_quality import GateQuality


def calibrate(
    labelled: Annotated[
        str,
        typer.Argument(
            help="JSON lines with the keys caption, rewrite and faithful (true or false).", metavar="LABELLED"
        ),
    ],
    config: Annotated[
        str | None, typer.Option(help="YAML file of an experiment, whose gate is measured. Default: the default gate.")
    ] = None,
    precision: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Wanted share of faithful rewrites among the accepted ones.")
    ] = 0.9,
) -> None:
    """Find thresholds of the meaning gate from labelled rewrites, and measure them."""
    experiment = read_experiment(config, None) if config else None
    announce(f"measuring the gate on {labelled}")
    from laclip_ray.config import GateConfig
    from laclip_ray.rewriting.judging.calibration import read_labelled
    from laclip_ray.rewriting.scoring.gate_quality import measure_gate

    gate = GateConfig() if experiment is None else experiment.rewrite.gate
    rewrites = read_labelled(labelled)
    if not rewrites:
        raise UserError(
            f"{printable_line(labelled)}: no labelled rewrite in this file; give JSON lines with the keys caption, "
            "rewrite and faithful"
        )
    quality = measure_gate(rewrites, gate, precision)
    settings = _settings(quality)
    done = f"thresholds with a precision of {precision:g}: {' '.join(settings)}"
    if not settings:
        done = f"No thresholds reach a precision of {precision:g} on these labels."
    finish(
        Ending(
            done,
            {"labelled": labelled},
            {"labelled": len(rewrites), "quality": quality, "overrides": settings},
        ),
        lambda: _print(quality, len(rewrites)),
    )


def _settings(quality: "GateQuality") -> list[str]:
    """Overrides that set the thresholds; none without any."""
    found = quality.found
    return [] if found is None else [
        f"rewrite.gate.meaning.added_weight={found.added_weight:g}",
        f"rewrite.gate.meaning.min_faithfulness={found.min_faithfulness:.4f}",
    ]  # fmt: skip


def _print(quality: "GateQuality", labelled: int) -> None:
    from rich.table import Table

    table = Table("gate", "precision", "recall", title=f"{labelled} labelled rewrites")
    for name, measured in quality.rows.items():
        table.add_row(name, str(measured.precision), str(measured.recall))
    console.print(table)
    if quality.copies:
        console.print(f"Left out: {quality.copies} copies of captions, which are faithful and no rewrites.")
    if quality.few:
        console.print(
            f"{quality.few}: too few labels to trust the thresholds; label at least {quality.least} of each kind."
        )
