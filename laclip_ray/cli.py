"""The command line: one verb a stage, `laclip VERB CONFIG [key=value ...]`.

Exit codes: 0 complete, 2 bad input (nothing was started or written), 3 incomplete (the same command continues).
"""

import logging
import re
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console

from laclip_ray import __version__
from laclip_ray.cluster import in_ray_job
from laclip_ray.config import Experiment, ExportTarget, ModelLayout, load_experiment, to_yaml, with_absolute_paths
from laclip_ray.errors import ExitCode, IncompleteError, UserError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Rewrite captions with a language model and train CLIP on them, on a Ray cluster.",
)
# Tables written to a file or a log get their full width, not that of a terminal that is not there.
console = Console(width=None if sys.stdout.isatty() else 120)

ConfigArgument = Annotated[str, typer.Argument(help="YAML file of the experiment.")]
OverridesArgument = Annotated[
    list[str] | None,
    typer.Argument(help="Dotted overrides, such as train.epochs=3.", metavar="[KEY=VALUE]..."),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print the resolved config and stop.")]


def _run_verb(run: Callable[[Experiment], Any], config: str, overrides: list[str] | None, dry_run: bool) -> None:
    experiment = load_experiment(config, overrides or [])
    if dry_run:
        typer.echo(to_yaml(experiment), nl=False)
        return
    # A job's relative output stays as it is, to be refused.
    run(with_absolute_paths(experiment, outputs=not in_ray_job()))


@app.command()
def rewrite(config: ConfigArgument, overrides: OverridesArgument = None, dry_run: DryRunOption = False) -> None:
    """Rewrite every caption that has no outcome yet."""

    def run(experiment: Experiment) -> None:
        from laclip_ray.console import print_rewriting
        from laclip_ray.rewriting.pipeline import run_rewriting

        print_rewriting(console, run_rewriting(experiment), experiment)

    _run_verb(run, config, overrides, dry_run)


@app.command()
def estimate(config: ConfigArgument, overrides: OverridesArgument = None, dry_run: DryRunOption = False) -> None:
    """Estimate what rewriting takes in tokens, GPU-hours and money; needs no GPU."""

    def run(experiment: Experiment) -> None:
        from laclip_ray.console import print_estimate
        from laclip_ray.rewriting.estimate import estimate_rewriting

        print_estimate(console, estimate_rewriting(experiment))

    _run_verb(run, config, overrides, dry_run)


@app.command()
def train(config: ConfigArgument, overrides: OverridesArgument = None, dry_run: DryRunOption = False) -> None:
    """Train CLIP on captions and rewrites; continues from the newest checkpoint."""

    def run(experiment: Experiment) -> None:
        from laclip_ray.console import print_training
        from laclip_ray.training.run import run_training

        print_training(console, run_training(experiment), experiment)

    _run_verb(run, config, overrides, dry_run)


@app.command()
def plan(config: ConfigArgument, overrides: OverridesArgument = None, dry_run: DryRunOption = False) -> None:
    """Say what `laclip run` would do, and what each way to deliver rewrites takes; starts nothing."""

    def run(experiment: Experiment) -> None:
        from laclip_ray.console import print_plan
        from laclip_ray.onejob.plan import plan_run

        print_plan(console, plan_run(experiment))

    _run_verb(run, config, overrides, dry_run)


@app.command("run")
def run_both(config: ConfigArgument, overrides: OverridesArgument = None, dry_run: DryRunOption = False) -> None:
    """Rewrite and train in one job, as `rewrite.delivery` says; the same command resumes both."""

    def run(experiment: Experiment) -> None:
        from laclip_ray.console import print_one_job
        from laclip_ray.onejob.run import run_one_job

        print_one_job(console, run_one_job(experiment), experiment)

    _run_verb(run, config, overrides, dry_run)


@app.command()
def evaluate(config: ConfigArgument, overrides: OverridesArgument = None, dry_run: DryRunOption = False) -> None:
    """Measure zero-shot classification and image-text retrieval of a trained model."""

    def run(experiment: Experiment) -> None:
        from laclip_ray.console import print_evaluation
        from laclip_ray.evaluation.run import run_evaluation

        print_evaluation(console, run_evaluation(experiment))

    _run_verb(run, config, overrides, dry_run)


@app.command()
def tune(config: ConfigArgument, overrides: OverridesArgument = None, dry_run: DryRunOption = False) -> None:
    """Sweep the augmentation probability p, and what goes with it."""

    def run(experiment: Experiment) -> None:
        from laclip_ray.console import print_sweep
        from laclip_ray.tuning.sweep import run_sweep

        print_sweep(console, run_sweep(experiment))

    _run_verb(run, config, overrides, dry_run)


@app.command()
def demo(
    output: Annotated[str, typer.Option(help="Directory for the world, the runs and the report.")] = "demo-output",
    model: Annotated[str | None, typer.Option(help="A rewriter from the hub or a directory, with a GPU.")] = None,
    chat: Annotated[bool, typer.Option("--chat", help="The model is an instruct model.")] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Train each p this many times.")] = 1,
    sweep: Annotated[bool, typer.Option("--sweep", help="Train at six p from 0 to 1, with Ray Tune.")] = False,
) -> None:
    """Run the whole path on a small rendered world: rewrite, train, evaluate, report."""
    from laclip_ray.demo.run import run_demo

    run_demo(console, output, model=model, chat=chat, seeds=seeds, sweep=sweep)


prompts_app = typer.Typer(no_args_is_help=True, help="List prompt sets, or make one from lists of captions.")
app.add_typer(prompts_app, name="prompts")


@prompts_app.command("list")
def list_prompts() -> None:
    """List the built-in prompt sets."""
    from rich.table import Table

    from laclip_ray.rewriting.prompts import built_in_prompt_sets, load_prompt_set

    table = Table("prompt set", "pairs", "description")
    for prompt_set in map(load_prompt_set, built_in_prompt_sets()):
        table.add_row(prompt_set.name, str(len(prompt_set.pairs)), prompt_set.description)
    console.print(table)


@prompts_app.command("import")
def import_prompts(
    file: Annotated[str, typer.Argument(help="Python file that assigns lists of captions; it is not executed.")],
    output: Annotated[str | None, typer.Option(help="YAML file to write; by default NAME.yaml, here.")] = None,
    name: Annotated[str | None, typer.Option(help="The set's name; by default from the lists' names.")] = None,
    source: Annotated[str | None, typer.Option(help="The list of captions to rewrite.")] = None,
    target: Annotated[str | None, typer.Option(help="The list of their rewrites.")] = None,
    groups: Annotated[str | None, typer.Option(help="The list of groups of captions of one picture.")] = None,
    pairs: Annotated[str | None, typer.Option(help="The list of (source, target).")] = None,
    seed: Annotated[int, typer.Option(help="Decides which pair of each group is drawn.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace the file that is there.")] = False,
) -> None:
    """Make a prompt set from a Python file that lists captions."""
    from laclip_ray.rewriting.prompt_import import Selection, import_prompt_set

    selection = Selection(source=source, target=target, groups=groups, pairs=pairs)
    imported, path = import_prompt_set(file, selection, output=output, name=name, seed=seed, force=force)
    if imported.joined_texts:
        typer.echo(f"{imported.joined_texts} texts of several lines: line breaks became spaces")
    typer.echo(f"{path}: {len(imported.prompt_set.pairs)} pairs; use it with 'rewrite.prompt_sets=[{path}]'")


rewrites_app = typer.Typer(
    no_args_is_help=True, help="Look at rewrite sets, retry what was refused, import and export them."
)
app.add_typer(rewrites_app, name="rewrites")


@rewrites_app.command("inspect")
def inspect_rewrites(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    reason: Annotated[
        list[str] | None, typer.Option(help="Show only draws refused for this reason, or `accepted` ones; repeatable.")
    ] = None,
    rewrite_set: Annotated[list[str] | None, typer.Option("--set", help="Only this set; repeatable.")] = None,
    samples: Annotated[int, typer.Option(min=0, help="How many to show of each reason.")] = 10,
    seed: Annotated[int, typer.Option(help="Decides which are shown.")] = 0,
) -> None:
    """Count rewrites by reason, and show samples of accepted and refused ones; reads a few shards."""

    def run(experiment: Experiment) -> None:
        from laclip_ray.console import print_inspection
        from laclip_ray.rewriting.inspection import inspect_rewrites

        print_inspection(
            console, inspect_rewrites(experiment, reason or (), rewrite_set or (), samples=samples, seed=seed)
        )

    _run_verb(run, config, overrides, dry_run=False)


@rewrites_app.command("retry")
def retry_rewrites(
    config: ConfigArgument,
    reason: Annotated[list[str], typer.Option(help="Draw again what was refused for this reason; repeatable.")],
    overrides: OverridesArgument = None,
) -> None:
    """Draw again the rewrites that ended with a reason, and only those; and whatever has no outcome yet."""

    def run(experiment: Experiment) -> None:
        from laclip_ray.console import print_rewriting
        from laclip_ray.rewriting.inspection import RETRYABLE, check_reasons
        from laclip_ray.rewriting.pipeline import run_rewriting

        check_reasons(reason, RETRYABLE)
        print_rewriting(console, run_rewriting(experiment, retry=reason), experiment)

    _run_verb(run, config, overrides, dry_run=False)


@rewrites_app.command("import")
def import_rewrites(
    config: ConfigArgument,
    captions: Annotated[str, typer.Argument(help="CSV of image path (the sample's id) and caption.")],
    texts: Annotated[
        list[str],
        typer.Argument(
            help="Text files, a line a row of the CSV, each a set; NAME.0.txt and NAME.1.txt are one set. "
            "Then dotted overrides.",
            metavar="TEXT_FILE... [KEY=VALUE]...",
        ),
    ],
    name: Annotated[list[str] | None, typer.Option(help="The sets' names; by default the files'; repeatable.")] = None,
    header: Annotated[bool, typer.Option("--header", help="The CSV's first row names its columns.")] = False,
    id_field: Annotated[int, typer.Option(min=1, help="The CSV's field that is the sample's id.")] = 1,
    caption_field: Annotated[int, typer.Option(min=1, help="The CSV's field that is the caption.")] = 2,
) -> None:
    """Make rewrite sets of line-aligned text files, as the paper's authors publish theirs; needs no engine."""

    def run(experiment: Experiment) -> None:
        from laclip_ray.rewriting.import_texts import import_rewrites

        imported = import_rewrites(experiment, captions, files, name or (), header, id_field, caption_field)
        for each, counts in imported.statistics.items():
            typer.echo(
                f"{each}: {counts.captions:,} captions, {counts.accepted:,} rewrites accepted; refused: "
                + (", ".join(f"{reason} {number:,}" for reason, number in counts.rejected.most_common()) or "none")
            )
        if imported.unused_lines:
            more = ", …" if imported.unused_lines > len(imported.unused_names) else ""
            typer.echo(
                f"{imported.unused_lines:,} of {imported.lines:,} rows are not in the data with this id and caption: "
                f"{', '.join(imported.unused_names)}{more}"
            )
        typer.echo(f"train on them with 'text.rewrites=[{', '.join(imported.locations.values())}]'")

    files = [each for each in texts if not _is_override(each)]
    _run_verb(run, config, [each for each in texts if _is_override(each)], dry_run=False)


def _is_override(argument: str) -> bool:
    return bool(re.match(r"[A-Za-z_][\w.]*=", argument))


@rewrites_app.command("export")
def export_rewrites(
    config: ConfigArgument,
    output: Annotated[str, typer.Argument(help="What is made: a file for parquet, else a directory; or a URL.")],
    to: Annotated[
        ExportTarget,
        typer.Option(
            help="One Parquet file; line-aligned text files; or the data's tars with the texts in json members."
        ),
    ],
    overrides: OverridesArgument = None,
    partial: Annotated[bool, typer.Option("--partial", help="Leave out what is not committed or has changed.")] = False,
) -> None:
    """Write accepted rewrites beside their captions, in the formats of others."""

    def run(experiment: Experiment) -> None:
        from laclip_ray.rewriting.export import export_rewrites

        exported = export_rewrites(experiment, output, to, partial)
        found = ", ".join(f"{name} {number:,}" for name, number in exported.sets.items())
        typer.echo(
            f"{output}: {exported.samples:,} samples of {exported.shards:,} shards, {exported.samples_without:,} "
            f"without a rewrite; rewrites: {found}"
        )
        for what, names in (
            ("left out, not committed", exported.not_committed),
            ("changed since they were rewritten", exported.changed),
            ("ended in the middle", exported.truncated),
        ):
            if names:
                typer.echo(f"{len(names):,} shards {what}: {', '.join(names[:5])}{', …' if len(names) > 5 else ''}")
        if exported.changed_samples:
            typer.echo(f"{exported.changed_samples:,} samples are new or have another caption: no rewrites")
        if exported.json_replaced:
            typer.echo(f"{exported.json_replaced:,} json members held no JSON object and were replaced")
        if exported.json_keys:
            typer.echo(
                f"open_clip (main branch) draws one of them with --json-text-key '{';'.join(exported.json_keys)}' "
                f"--json-text-key-probs {' '.join('1' for _ in exported.json_keys)}"
            )

    _run_verb(run, config, overrides, dry_run=False)


checkpoint_app = typer.Typer(no_args_is_help=True, help="Take in released checkpoints, and write models for others.")
app.add_typer(checkpoint_app, name="checkpoint")


@checkpoint_app.command("import")
def import_model(
    file: Annotated[str, typer.Argument(help="A checkpoint that the authors released (.pt), or a URL of one.")],
    target: Annotated[str, typer.Argument(help="A new directory or URL, which open_clip loads.")],
    model: Annotated[
        str | None, typer.Option(help="The model it is of, as model.name takes it; by default told by its shapes.")
    ] = None,
) -> None:
    """Turn a checkpoint of the authors' or of open_clip's into one that open_clip loads."""
    from laclip_ray.models.importing import import_checkpoint

    imported = import_checkpoint(file, target, model)
    epoch = f", epoch {imported.epoch}" if imported.epoch is not None else ""
    typer.echo(f"{target}: {imported.model} (the file has the {imported.layout} layout{epoch})")
    if imported.lookalike is not None:
        typer.echo(
            f"{imported.model} was told by its shapes, and {imported.lookalike} has the same; if this is one of those, "
            f"import it again with --model {imported.lookalike}"
        )


@checkpoint_app.command("export")
def export_model(
    source: Annotated[str, typer.Argument(help="A run's export or checkpoint, or an import.")],
    target: Annotated[str, typer.Argument(help="A new directory or URL.")],
    layout: Annotated[
        ModelLayout, typer.Option(help="For open_clip (every model), or for transformers.")
    ] = "open_clip",
    home: Annotated[
        str | None,
        typer.Option(
            help="Where it will be loaded from: hf-hub:ORGANISATION/NAME or local-dir:/PATH. A laclip_vit model with "
            "its home needs open_clip alone."
        ),
    ] = None,
) -> None:
    """Write a model for others, with a model card and its lineage."""
    from laclip_ray.models.exporting import export_checkpoint

    found = export_checkpoint(source, target, layout, home)
    typer.echo(f"{target}: README.md says how to load it")
    if not found:
        typer.echo(f"{source} does not say what it was made from, so lineage.json does not, either")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit; errors that a user can act on are printed without a traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("laclip_ray").setLevel(logging.INFO)
    try:
        app(arguments, standalone_mode=False)
    except (UserError, IncompleteError) as error:
        print(f"error: {error}", file=sys.stderr)
        _exit(error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        print("interrupted; the same command continues", file=sys.stderr)
        _exit(ExitCode.INCOMPLETE)
    except Exception as error:
        usage = getattr(error, "show", None)
        if usage is None:
            raise
        usage()  # typer's own usage errors know how to print themselves
        _exit(ExitCode.BAD_INPUT)


def _exit(code: ExitCode) -> None:
    raise SystemExit(int(code))


if __name__ == "__main__":
    main()
