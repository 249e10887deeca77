"""`laclip submit`: the verb."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from laclip_ray.choices import JOB_VERBS
from laclip_ray.cli.ending import Ending, announce, fail, finish, record
from laclip_ray.cli.manner import manner
from laclip_ray.cli.next_steps import after_submit
from laclip_ray.cli.options import ConfigArgument, OverridesArgument, say
from laclip_ray.errors import UserError
from laclip_ray.logs import clean

if TYPE_CHECKING:
    from laclip_ray.submitting.identity import Attempt
    from laclip_ray.submitting.server import JobServer
    from laclip_ray.submitting.submission import OwnDirectory, Submission


def submit(
    verb: Annotated[
        str,
        typer.Argument(help=f"One of {', '.join(JOB_VERBS)}.", metavar="VERB", autocompletion=lambda: [*JOB_VERBS]),
    ],
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
    announce(f"{verb} {config} -> {address or 'no cluster'}")
    from laclip_ray.submitting.submission import prepare, send

    directory = _own_directory(working_dir, exclude or [])
    submission = prepare(verb, config, overrides or [], directory, env or [], python)
    if dry_run:
        done = f"{submission.first_id}: would be submitted as: {submission.entry_point}"
        ending = Ending(done, summary=_package_json(submission), is_in_details=True)
        finish(ending, lambda: _print_package(submission, done))
        return
    if not address:
        raise UserError("--address is missing; give the URL of the job server, such as http://HOST:8265")
    from laclip_ray.submitting.server import JobServer

    server = JobServer(address)
    attempt = send(server, submission)
    travelling = {"--working-dir": [working_dir] if working_dir else [], "--exclude": exclude or [], "--env": env or []}
    again = ["laclip", "submit", verb, config, *(overrides or []), "--address", server.address]
    again += [word for name, values in travelling.items() for value in values for word in (name, value)]
    again += [] if python == "python" else ["--python", python]
    submitted = _submitted(attempt, submission, server.address, again)
    if not follow:
        finish(submitted, lambda: _print_attempt(attempt, submission, server.address))
        return
    record(outputs=submitted.outputs, summary=submitted.summary)
    _print_attempt(attempt, submission, server.address)
    if code := _follow(server, attempt.submission_id, submitted):
        raise typer.Exit(code)


def _submitted(attempt: "Attempt", submission: "Submission", address: str, again: Sequence[str]) -> Ending:
    """The end of the verb without `--follow`.

    Args:
        attempt: the job.
        submission: what travelled.
        address: of the job server.
        again: the words of the same command, without `--follow`.
    """
    return Ending(
        _attempt_sentence(attempt, address),
        {"job": attempt.submission_id, "address": address},
        {"attaches": attempt.attaches, **_package_json(submission)},
        after_submit(again, address, attempt.submission_id),
        is_in_details=True,
    )


def _follow(server: "JobServer", submission_id: str, submitted: Ending) -> int:
    """Print a job's log to the end of the job; the run's exit code."""
    from laclip_ray.submitting.following import follow
    from laclip_ray.submitting.job import ending_of

    try:
        job, log = follow(server, submission_id, _write)
    except BaseException:  # Ctrl-C too
        print(f"\n{submission_id}: not followed any more; the job was not stopped", file=sys.stderr)
        for step in submitted.next:
            say(f"  {step.command}  # {step.why}")
        raise
    if not log.endswith("\n"):
        say("")
    ended = ending_of(submission_id, job, log)
    if ended.code:
        fail(ended.sentence)
    finish(Ending(ended.sentence, submitted.outputs, {**submitted.summary, "job_exit_code": ended.code}))
    return ended.code


def _own_directory(working_dir: str | None, excludes: Sequence[str]) -> "OwnDirectory | None":
    from laclip_ray.submitting.submission import OwnDirectory

    if working_dir is None:
        if excludes:
            raise UserError("--exclude leaves files of --working-dir out; without it, only settings files travel")
        return None
    path = Path(os.path.abspath(working_dir))  # noqa: PTH100 - resolves `..`, and no links
    if not path.is_dir():
        raise UserError(f"--working-dir: {working_dir} is not a directory of this machine")
    return OwnDirectory(path, tuple(excludes))


def _attempt_sentence(attempt: "Attempt", address: str) -> str:
    if attempt.attaches:
        return f"{attempt.submission_id}: runs already at {address}; attached to it"
    return f"{attempt.submission_id}: submitted to {address}"


def _print_attempt(attempt: "Attempt", submission: "Submission", address: str) -> None:
    say(_attempt_sentence(attempt, address))
    if attempt.attaches:
        return
    if attempt.before is not None:
        earlier, status = attempt.before
        say(f"  {earlier} ended before ({status}); this attempt does what is missing")
    _print_package(submission)


def _package_json(submission: "Submission") -> dict[str, Any]:
    """What travels, for machines."""
    return {
        "entry_point": submission.entry_point,
        "files": sorted(submission.files),
        "directory": None if submission.directory is None else str(submission.directory.path),
        "variables": submission.variables.values,
        "variables_by_name": submission.variables.by_name,
    }


def _print_package(submission: "Submission", heading: str = "") -> None:
    """Say which files travel, and which the cluster must have."""
    if heading:
        say(heading)
    directory, variables = submission.directory, submission.variables
    what = ", ".join(sorted(submission.files)) if directory is None else f"the directory {directory.path}"
    say(f"  travels: {what}")
    if variables.values:
        say("  variables: " + ", ".join(f"{name}={value}" for name, value in variables.values.items()))
    if variables.by_name:
        say(f"  every node must have: {', '.join(variables.by_name)} (holds a secret, so its value does not travel)")


def _write(text: str) -> None:
    """Print a part of the job's log, which may end within a line."""
    if not manner().quiet:
        sys.stdout.write(clean(text))
        sys.stdout.flush()
