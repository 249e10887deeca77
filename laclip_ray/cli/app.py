"""The commands of the command line, put together: each with its place in the help, an example and its exit codes.

Commands import their part of the package when they run, so `--help` and `--dry-run` answer at once.
"""

from collections.abc import Callable
from typing import Annotated

import typer

from laclip_ray import __version__
from laclip_ray.cli import (
    checkpoints,
    data,
    doctor,
    gate,
    init,
    preview,
    prompts,
    report,
    rewrites,
    status,
    submit,
    verbs,
    version,
)
from laclip_ray.cli.commands import Verb, exit_codes, group
from laclip_ray.errors import ExitCode

START, DO, LOOK, CONVERT = "Start", "Do", "Look", "Convert"

_FILES = (ExitCode.BAD_INPUT, ExitCode.ENVIRONMENT)
"""The errors of a verb that reads and writes files and leaves no work."""
_WORK = (ExitCode.BAD_INPUT, ExitCode.INCOMPLETE, ExitCode.ENVIRONMENT)
"""The errors of a verb that may end with work left."""

app = group(
    "Rewrite captions with a language model and train CLIP on them, on a Ray cluster.",
    "laclip init s3://bucket/pictures",
    _WORK,
    add_completion=True,
)
data_app = group("Look at a dataset, or list it once.", "laclip data check pictures.yaml", _WORK)
rewrites_app = group(
    "Preview and inspect rewrites, draw refused ones again, import and export.",
    "laclip rewrites inspect pictures.yaml --reason refusal",
    _WORK,
)
prompts_app = group("List prompt sets, or make one from lists of captions.", "laclip prompts list", _FILES)
gate_app = group("Choose the thresholds of the gate.", "laclip gate calibrate labelled.jsonl", _FILES)
checkpoint_app = group(
    "Import released checkpoints, and export models to others.",
    "laclip checkpoint export /runs/pictures/train/export for-others",
    _FILES,
)


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


for _group in (data_app, rewrites_app, prompts_app, gate_app, checkpoint_app):
    # With a callback, a single command stays a command of its own: typer merges it into its group otherwise.
    _group.callback()(lambda: None)


def _add(
    to: typer.Typer,
    name: str,
    function: Callable[..., None],
    example: str,
    errors: tuple[ExitCode, ...],
    panel: str | None = None,
) -> None:
    """Add a command to a group."""
    epilog = exit_codes(f"laclip {example}", errors)
    to.command(name, cls=Verb, epilog=epilog, rich_help_panel=panel)(function)


_add(app, "init", init.init, "init s3://bucket/pictures", _FILES, START)
_add(app, "demo", verbs.demo, "demo --output demo-output", _WORK, START)
_add(app, "doctor", doctor.doctor, "doctor pictures.yaml", _FILES, START)
_add(app, "estimate", verbs.estimate, "estimate pictures.yaml rewrite.price=h100", _FILES, DO)
_add(app, "plan", verbs.plan, "plan pictures.yaml", _FILES, DO)
_add(app, "rewrite", verbs.rewrite, "rewrite pictures.yaml", _WORK, DO)
_add(app, "train", verbs.train, "train pictures.yaml text.p=0.5", _WORK, DO)
_add(app, "run", verbs.run_both, "run pictures.yaml rewrite.delivery=inline", _WORK, DO)
_add(app, "evaluate", verbs.evaluate, "evaluate pictures.yaml", _WORK, DO)
_add(app, "tune", verbs.tune, "tune pictures.yaml 'tune.p=[0, 0.5, 0.8]'", _WORK, DO)
_add(app, "submit", submit.submit, "submit run pictures.yaml --address http://HEAD:8265 --follow", _WORK, DO)
_add(app, "status", status.status, "status /runs/pictures", _FILES, LOOK)
_add(app, "report", report.report, "report pictures.yaml", _FILES, LOOK)
_add(app, "version", version.version, "version", (), LOOK)

app.add_typer(data_app, name="data", rich_help_panel=START)
_add(data_app, "check", data.check, "data check pictures.yaml", _WORK)
_add(data_app, "index", data.index, "data index pictures.yaml", _FILES)

app.add_typer(rewrites_app, name="rewrites", rich_help_panel=LOOK)
_add(rewrites_app, "preview", preview.preview_rewrites, "rewrites preview pictures.yaml --captions 20", _WORK)
_add(rewrites_app, "inspect", rewrites.inspect_rewrites, "rewrites inspect pictures.yaml --reason refusal", _FILES)
_add(rewrites_app, "retry", rewrites.retry_rewrites, "rewrites retry pictures.yaml --reason engine_died", _WORK)
_add(rewrites_app, "probe", rewrites.probe_engine, "rewrites probe pictures.yaml", _WORK)
_add(rewrites_app, "import", rewrites.import_rewrites, "rewrites import pictures.yaml captions.csv texts.txt", _WORK)
_add(rewrites_app, "export", rewrites.export_rewrites, "rewrites export pictures.yaml all.parquet --to parquet", _WORK)

app.add_typer(gate_app, name="gate", rich_help_panel=LOOK)
_add(gate_app, "calibrate", gate.calibrate, "gate calibrate labelled.jsonl --precision 0.9", _FILES)

app.add_typer(prompts_app, name="prompts", rich_help_panel=CONVERT)
_add(prompts_app, "list", prompts.list_prompts, "prompts list", ())
_add(prompts_app, "import", prompts.import_prompts, "prompts import lists.py --source SOURCE --target TARGET", _FILES)

app.add_typer(checkpoint_app, name="checkpoint", rich_help_panel=CONVERT)
_add(checkpoint_app, "import", checkpoints.import_model, "checkpoint import cc12m_laclip.pt imported", _FILES)
_add(checkpoint_app, "export", checkpoints.export_model, "checkpoint export /runs/a/train/export for-others", _FILES)
