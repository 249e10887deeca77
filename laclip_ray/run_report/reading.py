"""Read the facts of runs from storage.

Guarantees: nothing is written. A damaged file is named, and the rest is read.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from laclip_ray import storage
from laclip_ray.config import Experiment, parse_experiment
from laclip_ray.endings.causes import describe
from laclip_ray.errors import UserError
from laclip_ray.evaluation.results import RESULTS_FILE
from laclip_ray.rewriting.recipe import gate_fingerprint
from laclip_ray.rewriting.storing.sets import SetSelection, configured_sets
from laclip_ray.run_report.facts import RewritingFacts, RunFacts, TrainingFacts
from laclip_ray.run_report.reading_metrics import read_lines
from laclip_ray.run_report.reading_rewrites import read_rewriting
from laclip_ray.status.damage import Damage
from laclip_ray.status.outputs import Locations, look_at
from laclip_ray.training.paths import RunPaths
from laclip_ray.tuning.paths import SweepPaths
from laclip_ray.tuning.results import Sweep
from laclip_ray.tuning.stages import Stage, read_stage

_RUN_FILE = "run.json"
"""What `laclip run` writes. The module that names it imports Ray."""
_STAGES_READ = 5_000
_READERS = 16


@dataclass(frozen=True)
class Target:
    """A run to report on."""

    name: str
    locations: Locations
    experiment: Experiment | None = None
    """Its config, if it was given."""


def read_run(target: Target, captions: int, seed: int, data_of: Mapping[str, Any] | None = None) -> RunFacts:
    """Read one run.

    Args:
        target: the run.
        captions: how many to show.
        seed: decides which.
        data_of: a config that names the data of a run that records none.
    """
    parts, damage = target.locations.parts, Damage()
    status = look_at(target.locations)
    experiment = config_of(target, damage)
    rewriting = None
    if status.rewriting is not None and status.rewriting.sets:
        locations = [storage.join(parts["rewriting"], each.name) for each in status.rewriting.sets]
        rewriting = read_rewriting(locations, _gate(experiment), experiment or data_of or {}, captions, seed, damage)
    elif experiment and "training" in parts:
        rewriting = _other_rewrites(experiment, captions, seed, damage)
    training = None
    if status.training is not None and status.training.state != "never started":
        training = _training(parts["training"], damage)
    evaluation: dict[str, Any] = {}
    if status.evaluation is not None:
        url = storage.join(parts["evaluation"], RESULTS_FILE)
        evaluation = damage.read_json(url, "the results of an evaluation", _AGAIN, _parse_results) or {}
    sweep = None
    if status.sweep is not None and status.sweep.points_begun:
        sweep = _sweep(parts["sweep"], _config_of_sweep(target, damage), damage)
    problems = list(dict.fromkeys((*status.problems, *damage.found)))
    is_one_job = storage.exists(storage.join(target.locations.output, _RUN_FILE))
    return RunFacts(target.name, status, experiment, rewriting, training, evaluation, sweep, problems, is_one_job)


_AGAIN = "Remove it, and the same command writes it again"


def config_of(target: Target, damage: Damage) -> dict[str, Any]:
    """The config as JSON: the one that training recorded, else the given one, else that of a run of the sweep.

    What training recorded has the overrides that it ran with; a file that the user gives has none.
    """
    return _recorded_by_training(target, damage) or _given(target) or _recorded_by_sweep(target, damage)


def _config_of_sweep(target: Target, damage: Damage) -> dict[str, Any]:
    """The config as JSON whose sweep is meant."""
    return _given(target) or _recorded_by_sweep(target, damage) or _recorded_by_training(target, damage)


def _given(target: Target) -> dict[str, Any]:
    return {} if target.experiment is None else target.experiment.as_written()


def _recorded_by_training(target: Target, damage: Damage) -> dict[str, Any]:
    location = target.locations.parts.get("training")
    return {} if location is None else _record(RunPaths(location).experiment, damage)


def _recorded_by_sweep(target: Target, damage: Damage) -> dict[str, Any]:
    """The record of the first run of a sweep."""
    location = target.locations.parts.get("sweep")
    if location is None:
        return {}
    trials = SweepPaths(location).trials
    for point in storage.list_directories(trials)[:1]:
        for run in storage.list_directories(storage.join(trials, point))[:1]:
            return _record(RunPaths(storage.join(trials, point, run, "train")).experiment, damage)
    return {}


def _record(url: str, damage: Damage) -> dict[str, Any]:
    return damage.read_json(url, "the record of this run", "Restore it from a copy", dict) or {}


def _gate(experiment: Mapping[str, Any]) -> str | None:
    """The fingerprint of the configured gate; None if the config is not known."""
    try:
        parsed = parse_experiment(dict(experiment), where="the recorded config")
        return gate_fingerprint(parsed.rewrite.gate, parsed.model.name)
    except (UserError, OSError):
        return None


def _other_rewrites(experiment: Mapping[str, Any], captions: int, seed: int, damage: Damage) -> RewritingFacts | None:
    """The rewrites that a training run read from another output; None if it read none, or they are gone."""
    try:
        parsed = parse_experiment(dict(experiment), where="the recorded config")
        if not parsed.text.reads_rewrites:
            return None
        locations = SetSelection.of(parsed).locations
    except UserError:
        return None
    by_name = {storage.name_of(location.rstrip("/")): location for location in locations}
    return read_rewriting([*by_name.values()], _gate(experiment), experiment, captions, seed, damage)


def _parse_results(content: Any) -> dict[str, Any]:
    for entry in content["results"]:
        if not (isinstance(entry["task"], str) and isinstance(entry["dataset"], str)):
            raise TypeError("a task or a dataset is no text")
    return dict(content)


def _training(location: str, damage: Damage) -> TrainingFacts:
    paths = RunPaths(location)
    lines, are_all = read_lines(paths.metrics, damage)
    evaluations, _ = read_lines(paths.evaluations, damage)
    summary = damage.read_json(paths.summary, "the summary of this training run", _AGAIN, dict)
    return TrainingFacts([line for line in lines if _is_line(line)], are_all, summary or {}, evaluations)


def _is_line(line: Mapping[str, Any]) -> bool:
    return isinstance(line.get("step"), int) and isinstance(line.get("epoch"), int | float)


def _sweep(location: str, experiment: Mapping[str, Any], damage: Damage) -> Sweep | None:
    """The stored stages of a sweep; None without any, or if its config is not known."""
    paths = SweepPaths(location)
    urls = [url for url in storage.list_files(paths.trials) if paths.is_stage(url)]
    with ThreadPoolExecutor(_READERS) as pool:
        read = [*pool.map(_read_stage, urls[:_STAGES_READ])]
    stages = [stage for stage in read if isinstance(stage, Stage)]
    damage.found += [problem for problem in read if isinstance(problem, str)]
    if len(urls) > _STAGES_READ:
        damage.found.append(f"{location}: only {_STAGES_READ:,} of {len(urls):,} results are on this page")
    if not stages:
        return None
    try:
        parsed = parse_experiment(dict(experiment), where="the recorded config")
        ordered = sorted(stages, key=lambda stage: (stage.point, stage.seed, stage.epoch))
        sweep = Sweep(parsed, tuple(ordered), _most_rewrites(parsed))
        sweep.verdicts()  # a recorded config may name a metric that no stage has
    except (UserError, KeyError, ValueError) as error:
        damage.found.append(f"{location}: the sweep's results are not shown: {error}")
        return None
    return sweep


def _read_stage(url: str) -> Stage | str:
    """A stored stage, or why it cannot be read."""
    try:
        return read_stage(url)
    except UserError as error:
        return str(error)
    except OSError as error:
        return f"{url}: {describe(error)}"


def _most_rewrites(experiment: Experiment) -> int:
    """M, from the sets in storage, else as configured."""
    rewrite = experiment.rewrite
    configured = len(rewrite.prompt_sets) * rewrite.rewrites_per_set
    try:
        return configured_sets(SetSelection.of(experiment)).most_rewrites() or configured
    except (UserError, OSError):
        return configured
