"""The commands of `laclip gate`."""

from typing import TYPE_CHECKING, Annotated

import typer

from laclip_ray.cli.commands import Verb, group
from laclip_ray.cli.options import console, read_experiment
from laclip_ray.errors import UserError
from laclip_ray.printable import printable_line

if TYPE_CHECKING:
    from laclip_ray.config import GateConfig
    from laclip_ray.rewriting.judging.calibration import LabelledRewrite

gate_app = group("Choose the thresholds of the gate.")


@gate_app.callback()
def _gate() -> None:
    """A callback keeps `calibrate` a command of its own: typer merges a single command into its group."""


@gate_app.command("calibrate", cls=Verb)
def calibrate(
    labelled: Annotated[
        str, typer.Argument(help="JSON lines with the keys caption, rewrite and faithful (true or false).")
    ],
    config: Annotated[
        str | None, typer.Option(help="YAML file of an experiment, whose gate is measured. Default: the default gate.")
    ] = None,
    precision: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Wanted share of faithful rewrites among the accepted ones.")
    ] = 0.9,
) -> None:
    """Find thresholds of the meaning gate from labelled rewrites, and measure them."""
    from laclip_ray.config import GateConfig
    from laclip_ray.rewriting.judging.calibration import read_labelled

    gate = read_experiment(config, None).rewrite.gate if config else GateConfig()
    rewrites = read_labelled(labelled)
    if not rewrites:
        raise UserError(f"{printable_line(labelled)}: no labelled rewrite in this file")
    _report(rewrites, gate, precision)


def _report(rewrites: "list[LabelledRewrite]", gate: "GateConfig", precision: float) -> None:
    from rich.table import Table

    from laclip_ray.rewriting.scoring.gate_quality import measure_gate

    quality = measure_gate(rewrites, gate, precision)
    table = Table("gate", "precision", "recall", title=f"{len(rewrites)} labelled rewrites")
    for name, measured in quality.rows.items():
        table.add_row(name, str(measured.precision), str(measured.recall))
    console.print(table)
    if quality.copies:
        console.print(f"Left out: {quality.copies} copies of captions, which are faithful and no rewrites.")
    if quality.few:
        console.print(
            f"{quality.few}: too few labels to trust the thresholds; label at least {quality.least} of each kind."
        )
    if quality.found is None:
        console.print(f"No thresholds reach a precision of {precision:g} on these labels.")
    else:
        console.print(f"rewrite.gate.meaning.added_weight={quality.found.added_weight:g}", markup=False)
        console.print(f"rewrite.gate.meaning.min_faithfulness={quality.found.min_faithfulness:.4f}", markup=False)
