"""Prepare a submission from a command's arguments, and send it or attach to it."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from laclip_ray import __version__
from laclip_ray.config import local_paths, named_variables, parse_experiment
from laclip_ray.config.loading import read_config
from laclip_ray.errors import UserError
from laclip_ray.nearest import did_you_mean
from laclip_ray.redaction import redact, redacted
from laclip_ray.submitting.identity import Attempt, choose_attempt, fingerprint_of, first_id
from laclip_ray.submitting.package import (
    SECTIONS,
    Variables,
    check_holds_no_secret,
    check_paths,
    choose_variables,
    entry_point,
    place_config,
    read_settings,
    stage,
    without_variables,
)


class JobExistsError(RuntimeError):
    """A job with this submission id exists."""


class Submitter(Protocol):
    """The calls of a job server that a submission needs."""

    def statuses(self) -> dict[str, str]: ...

    def submit(
        self, submission_id: str, entry_point: str, runtime_env: Mapping[str, Any], metadata: Mapping[str, str]
    ) -> None: ...


@dataclass(frozen=True)
class OwnDirectory:
    """A directory of the user's that travels as a whole."""

    path: Path
    """Absolute."""
    excludes: tuple[str, ...] = ()
    """Patterns as in `.gitignore`."""


@dataclass(frozen=True)
class Submission:
    """One verb with its config, ready to be sent."""

    first_id: str
    """Submission id of the first attempt."""
    entry_point: str
    files: Mapping[str, bytes]
    """The config and the settings files, by their path in the job's directory."""
    directory: OwnDirectory | None
    """Travels in place of `files`."""
    variables: Variables
    metadata: Mapping[str, str]


def prepare(
    verb: str,
    config: str,
    overrides: Sequence[str] = (),
    directory: OwnDirectory | None = None,
    variables: Sequence[str] = (),
    python: str = "python",
) -> Submission:
    """Read and check everything that travels. Asks no server.

    Args:
        verb: one of `SECTIONS`.
        config: path of the config file.
        overrides: `key=value` strings.
        directory: travels as a whole. None: the config and its settings files travel.
        variables: names of environment variables that travel besides those that the config names.
        python: the cluster's Python, as a shell command.

    Raises:
        UserError: the config is wrong, or something does not travel.
    """
    if verb not in SECTIONS:
        near = did_you_mean(verb, SECTIONS)
        raise UserError(f"{verb}: not a verb that can be submitted; these can: {', '.join(SECTIONS)}{near}")
    text, content = read_config(config)
    names = list(dict.fromkeys([*named_variables(content), *variables]))
    chosen = choose_variables(names, os.environ)
    missing = [name for name in chosen.by_name if name not in os.environ]
    experiment = parse_experiment(without_variables(content, missing), overrides, where=config)
    check_holds_no_secret(text, config, overrides)
    root = directory.path if directory is not None else Path.cwd()
    paths = [each for each in local_paths(experiment) if each.key.split(".")[0] in SECTIONS[verb]]
    settings = read_settings(check_paths(paths, directory.path if directory is not None else None), root)
    place = place_config(Path(os.path.abspath(config)), root, settings)  # noqa: PTH100 - resolves `..`, and no links
    if directory is not None and not (root / place).is_file():
        raise UserError(f"{config}: lies outside of {root}, the directory that travels. Copy it there")
    fingerprint = fingerprint_of(verb, redacted(experiment.model_dump(mode="json")), settings)
    return Submission(
        first_id=first_id(verb, experiment.name, fingerprint),
        entry_point=entry_point(python, verb, place, overrides),
        files={**settings, place: text.encode()},
        directory=directory,
        variables=chosen,
        metadata={"name": redact(experiment.name), "verb": verb, "fingerprint": fingerprint, "laclip_ray": __version__},
    )


def send(server: Submitter, submission: Submission) -> Attempt:
    """Submit a job, or attach to the equal job that waits or runs.

    Raises:
        UserError: the user's directory is too large.
        SurroundingsError: the server refuses the job or does not answer.
    """
    while True:
        attempt = choose_attempt(submission.first_id, server.statuses())
        if attempt.attaches:
            return attempt
        try:
            _submit(server, submission, attempt.submission_id)
        except JobExistsError:  # submitted by another process in this moment
            continue
        return attempt


def _submit(server: Submitter, submission: Submission, submission_id: str) -> None:
    with tempfile.TemporaryDirectory(prefix="laclip-submit-") as staged:
        environment: dict[str, Any] = {"working_dir": staged, "env_vars": dict(submission.variables.values)}
        if submission.directory is not None:
            environment["working_dir"] = str(submission.directory.path)
            environment["excludes"] = list(submission.directory.excludes)
        else:
            stage(submission.files, Path(staged))
        server.submit(submission_id, submission.entry_point, environment, submission.metadata)
