"""The command line: one verb for each stage, `laclip VERB CONFIG [key=value ...]`.

Exit codes: 0 complete, 2 bad input (nothing started, nothing written), 3 incomplete (the same command resumes).

Commands import their part of the package when they run, so `--help` and `--dry-run` answer at once.
"""

import logging
import sys

import typer

from laclip_ray import __version__
from laclip_ray.cli import checkpoints, rewrites, verbs
from laclip_ray.errors import ExitCode, IncompleteError, UserError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Rewrite captions with a language model and train CLIP on them, on a Ray cluster.",
)
for verb in (verbs.rewrite, verbs.estimate, verbs.train, verbs.plan):
    app.command()(verb)
app.command("run")(verbs.run_both)
for verb in (verbs.evaluate, verbs.tune):
    app.command()(verb)
app.command()(verbs.demo)
app.add_typer(rewrites.prompts_app, name="prompts")
app.add_typer(rewrites.rewrites_app, name="rewrites")
app.add_typer(checkpoints.checkpoint_app, name="checkpoint")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit. Errors that a user can act on are printed without a traceback.

    Args:
        arguments: the words after `laclip`. None: those of this process.
    """
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
        show = getattr(error, "show", None)
        if show is None:
            raise
        show()  # typer's usage errors print themselves
        _exit(ExitCode.BAD_INPUT)


def _exit(code: ExitCode) -> None:
    raise SystemExit(int(code))
