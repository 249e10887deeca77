"""The commands of the command line, put together.

Commands import their part of the package when they run, so `--help` and `--dry-run` answer at once.
"""

import typer

from laclip_ray import __version__
from laclip_ray.cli import checkpoints, data, doctor, gate, init, preview, report, rewrites, status, submit, verbs

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Rewrite captions with a language model and train CLIP on them, on a Ray cluster.",
)
app.command()(init.init)
for verb in (verbs.rewrite, verbs.estimate, verbs.train, verbs.plan):
    app.command()(verb)
app.command("run")(verbs.run_both)
for verb in (verbs.evaluate, verbs.tune):
    app.command()(verb)
app.command()(submit.submit)
app.command()(status.status)
app.command()(report.report)
app.command()(doctor.doctor)
app.command()(verbs.demo)
app.add_typer(data.data_app, name="data")
app.add_typer(rewrites.prompts_app, name="prompts")
rewrites.rewrites_app.command("preview")(preview.preview_rewrites)
app.add_typer(rewrites.rewrites_app, name="rewrites")
app.add_typer(gate.gate_app, name="gate")
app.add_typer(checkpoints.checkpoint_app, name="checkpoint")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)
