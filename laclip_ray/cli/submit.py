"""`laclip submit`: the verb."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from laclip_ray.cli.options import ConfigArgument, OverridesArgument
from laclip_ray.errors import UserError
from laclip_ray.logs import clean
from laclip_ray.submitting.identity import Attempt
from laclip_ray.submitting.package import SECTIONS
from laclip_ray.submitting.submission import OwnDirectory, Submission, prepare, send

if TYPE_CHECKING:
    from laclip_ray.submitting.server import JobServer


def submit(
    verb: Annotated[str, typer.Argument(help=f"One of {', '.join(SECTIONS)}.")],
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    address: Annotated[
        str, typer.Option(envvar="RAY_API_SERVER_ADDRESS", help="URL of the job server: http://HOST:8265.")
    ] = "",
    follow: Annotated[
        bool, typer.Option("--follow", help="Print the job's log; exit with the run's exit code.")
    ] = False,
    working_dir: Annotated[
        str | None,
        typer.Option(help="A directory that travels as a whole. Default: the config and its settings files travel."),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Leave files of --working-dir out; a pattern as in .gitignore.")
    ] = None,
    env: Annotated[
        list[str] | None, typer.Option(help="A further environment variable of the job, by name.", metavar="NAME")
    ] = None,
    python: Annotated[str, typer.Option(help="The cluster's Python, as a shell command.")] = "python",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would travel, and submit nothing.")] = False,
) -> None:
    """Run a verb on a cluster as a Ray job. While the job runs, the same command attaches to it."""
    directory = _own_directory(working_dir, exclude or [])
    submission = prepare(verb, config, overrides or [], directory, env or [], python)
    if dry_run:
        _say(f"{submission.first_id}: would be submitted as: {submission.entry_point}")
        _print_package(submission)
        return
    if not address:
        raise UserError("--address is missing; give the URL of the job server, such as http://HOST:8265")
    from laclip_ray.submitting.server import JobServer

    server = JobServer(address)
    attempt = send(server, submission)
    _print_attempt(attempt, submission, server.address)
    options = {"--working-dir": [working_dir] if working_dir else [], "--exclude": exclude or [], "--env": env or []}
    options["--python"] = [] if python == "python" else [python]
    again = ["laclip", "submit", verb, config, *(overrides or []), "--address", server.address]
    again += [word for name, values in options.items() for value in values for word in (name, value)]
    if not follow:
        _print_commands(attempt.submission_id, server.address, again)
        return
    if code := _follow(server, attempt.submission_id, again):
        raise typer.Exit(code)


def _follow(server: "JobServer", submission_id: str, again: Sequence[str]) -> int:
    """Print a job's log to the end of the job; the run's exit code."""
    from laclip_ray.submitting.following import follow
    from laclip_ray.submitting.job import ending_of

    try:
        job, log = follow(server, submission_id, _write)
    except BaseException:  # Ctrl-C too
        print(f"\n{submission_id}: not followed any more; the job was not stopped", file=sys.stderr)
        _print_commands(submission_id, server.address, again)
        raise
    if not log.endswith("\n"):
        _say("")
    ended = ending_of(submission_id, job, log)
    _say(ended.sentence)
    return ended.code


def _own_directory(working_dir: str | None, excludes: Sequence[str]) -> OwnDirectory | None:
    if working_dir is None:
        if excludes:
            raise UserError("--exclude leaves files of --working-dir out; without it, only settings files travel")
        return None
    path = Path(os.path.abspath(working_dir))  # noqa: PTH100 - resolves `..`, and no links
    if not path.is_dir():
        raise UserError(f"--working-dir: {working_dir} is not a directory of this machine")
    return OwnDirectory(path, tuple(excludes))


def _print_attempt(attempt: Attempt, submission: Submission, address: str) -> None:
    if attempt.attaches:
        _say(f"{attempt.submission_id}: runs already at {address}; attached to it")
        return
    _say(f"{attempt.submission_id}: submitted to {address}")
    if attempt.before is not None:
        earlier, status = attempt.before
        _say(f"  {earlier} ended before ({status}); this attempt does what is missing")
    _print_package(submission)


def _print_package(submission: Submission) -> None:
    """Say what travels, and what the cluster must have."""
    directory, variables = submission.directory, submission.variables
    what = ", ".join(sorted(submission.files)) if directory is None else f"the directory {directory.path}"
    _say(f"  travels: {what}")
    if variables.values:
        _say("  variables: " + ", ".join(f"{name}={value}" for name, value in variables.values.items()))
    if variables.by_name:
        _say(f"  every node must have: {', '.join(variables.by_name)} (holds a secret, so its value does not travel)")


def _print_commands(submission_id: str, address: str, again: Sequence[str]) -> None:
    """Print the commands that deal with a job.

    Args:
        submission_id: of the job.
        address: of the job server.
        again: the command that submitted the job, without `--follow`.
    """
    at = ["--address", address, submission_id]
    _say(f"  follow: {shlex.join([*again, '--follow'])}")
    _say(f"  status: {shlex.join(['ray', 'job', 'status', *at])}")
    _say(f"  stop:   {shlex.join(['ray', 'job', 'stop', *at])}")


def _write(text: str) -> None:
    """Print a part of the job's log, which may end within a line."""
    sys.stdout.write(clean(text))
    sys.stdout.flush()


def _say(text: str) -> None:
    typer.echo(clean(text))
