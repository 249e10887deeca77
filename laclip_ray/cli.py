"""The command line: one verb a stage, `laclip VERB CONFIG [key=value ...]`.

Exit codes: 0 complete, 2 bad input (nothing was started or written), 3 incomplete (the same command continues).
"""

import logging
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console

from laclip_ray import __version__
from laclip_ray.cluster import in_ray_job
from laclip_ray.config import Experiment, load_experiment, to_yaml, with_absolute_paths
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
        from laclip_ray.reporting.console import print_rewriting
        from laclip_ray.rewriting.pipeline import run_rewriting

        print_rewriting(console, run_rewriting(experiment), experiment)

    _run_verb(run, config, overrides, dry_run)


@app.command()
def train(config: ConfigArgument, overrides: OverridesArgument = None, dry_run: DryRunOption = False) -> None:
    """Train CLIP on captions and rewrites; continues from the newest checkpoint."""

    def run(experiment: Experiment) -> None:
        from laclip_ray.reporting.console import print_training
        from laclip_ray.training.run import run_training

        print_training(console, run_training(experiment), experiment)

    _run_verb(run, config, overrides, dry_run)


@app.command()
def evaluate(config: ConfigArgument, overrides: OverridesArgument = None, dry_run: DryRunOption = False) -> None:
    """Measure zero-shot classification and image-text retrieval of a trained model."""

    def run(experiment: Experiment) -> None:
        from laclip_ray.evaluation.run import run_evaluation
        from laclip_ray.reporting.console import print_evaluation

        print_evaluation(console, run_evaluation(experiment))

    _run_verb(run, config, overrides, dry_run)


@app.command()
def tune(config: ConfigArgument, overrides: OverridesArgument = None, dry_run: DryRunOption = False) -> None:
    """Sweep the augmentation probability p."""

    def run(experiment: Experiment) -> None:
        from laclip_ray.reporting.console import print_sweep
        from laclip_ray.tuning import run_sweep

        print_sweep(console, run_sweep(experiment))

    _run_verb(run, config, overrides, dry_run)


@app.command()
def demo(
    output: Annotated[str, typer.Option(help="Directory for the world, the runs and the report.")] = "demo-output",
    model: Annotated[str | None, typer.Option(help="A rewriter from the hub or a directory, with a GPU.")] = None,
    chat: Annotated[bool, typer.Option("--chat", help="The model is an instruct model.")] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Train each p this many times.")] = 1,
) -> None:
    """Run the whole path on a small rendered world: rewrite, train, evaluate, report."""
    from laclip_ray.demo.run import run_demo

    run_demo(console, output, model=model, chat=chat, seeds=seeds)


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
