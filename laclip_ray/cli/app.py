"""The commands of the command line, put together.

Commands import their part of the package when they run, so `--help` and `--dry-run` answer at once.
"""

from typing import Annotated

import typer

from laclip_ray import __version__
from laclip_ray.cli import checkpoints, data, doctor, gate, init, preview, report, rewrites, status, submit, verbs
from laclip_ray.cli.commands import Verb, group

app = group("Rewrite captions with a language model and train CLIP on them, on a Ray cluster.", add_completion=True)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", "-V", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Declare the options of `laclip` itself."""


app.command(cls=Verb)(init.init)
for verb in (verbs.rewrite, verbs.estimate, verbs.train, verbs.plan):
    app.command(cls=Verb)(verb)
app.command("run", cls=Verb)(verbs.run_both)
for verb in (verbs.evaluate, verbs.tune):
    app.command(cls=Verb)(verb)
app.command(cls=Verb)(submit.submit)
app.command(cls=Verb)(status.status)
app.command(cls=Verb)(report.report)
app.command(cls=Verb)(doctor.doctor)
app.command(cls=Verb)(verbs.demo)
app.add_typer(data.data_app, name="data")
app.add_typer(rewrites.prompts_app, name="prompts")
rewrites.rewrites_app.command("preview", cls=Verb)(preview.preview_rewrites)
app.add_typer(rewrites.rewrites_app, name="rewrites")
app.add_typer(gate.gate_app, name="gate")
app.add_typer(checkpoints.checkpoint_app, name="checkpoint")


@app.command(cls=Verb)
def version() -> None:
    """Print the version."""
    typer.echo(__version__)
