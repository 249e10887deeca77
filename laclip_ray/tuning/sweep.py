"""`laclip tune`: check, make the rewrites, train every point of the space, write the results.

Guarantees: rewrites are made once, before the first run. Every result is stored (`trials/POINT/seedN/stages`), and a
resume needs only these files: the same command reads them, tells the scheduler and the search about them, resumes runs
that died, and repeats no training. It does not read Tune's own snapshots, because they are pickles.
Not covered: if points outnumber the room, a point's seeds are trained one after another, even at the end, when there
would be room for several.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from laclip_ray import cluster, lease, storage
from laclip_ray.config import Experiment, Inputs, RewriteConfig, TrainConfig, TuneConfig, inputs_on_nodes
from laclip_ray.data.dataset_index import beside, keep_index
from laclip_ray.data.shards import list_shards
from laclip_ray.errors import IncompleteError, UserError
from laclip_ray.evaluation.run import open_sets
from laclip_ray.rewriting.prices import load_prices
from laclip_ray.rewriting.running.backlog import find_backlog
from laclip_ray.rewriting.running.pipeline import run_rewriting
from laclip_ray.rewriting.storing.score_checks import check_scores
from laclip_ray.rewriting.storing.sets import RewriteSets, SetSelection, committed_sets
from laclip_ray.training.rows import find_rows, write_rows
from laclip_ray.training.run import check_training
from laclip_ray.tuning.capacity import reserve
from laclip_ray.tuning.paths import SweepPaths
from laclip_ray.tuning.points import evaluated_epochs, run_points
from laclip_ray.tuning.results import Sweep, objective_metric, write_sweep
from laclip_ray.tuning.schedulers import BudgetStopper
from laclip_ray.tuning.space import P_KEY, Point, Space, check_space, listed_points
from laclip_ray.tuning.stages import begun_points, costs, ended_epoch, read_stages
from laclip_ray.tuning.sweep_record import SharedSettings, check_sweep, write_record
from laclip_ray.tuning.tracked import track_sweep
from laclip_ray.tuning.trial import run_experiment, training_price


def run_sweep(experiment: Experiment) -> Sweep:
    """Make missing rewrites, train and evaluate every point, and write the results.

    Raises:
        UserError: bad input, before anything starts.
        IncompleteError: a run failed, the budget is spent, or the sweep was stopped. The results so far are written.
    """
    tune, paths = experiment.tune, SweepPaths(experiment.tune_output)
    reservation = reserve(experiment.train, 1)
    cluster.check_local(experiment.ray, reservation)  # first, because later checks load models, which takes seconds
    points = listed_points(tune, experiment.seed)
    variants = _check_input(experiment, points)
    epochs = evaluated_epochs(tune, experiment.train.epochs)
    settings = SharedSettings.of(experiment, Space.of(tune), epochs)
    storage.check_output(paths.location, "tune.output", cluster.in_ray_job(), 1, experiment.ray.shared_paths)
    with lease.hold(paths.location, "tune.output", "tune"):
        check_sweep(paths, settings)
        readers = _readers(tune, variants)
        if (finished := _finished_sweep(experiment, points, readers)) is not None:
            write_sweep(finished)
            return finished
        cluster.connect(experiment.ray, reservation, {"tune.output": paths.location}, _inputs(variants))
        sets = _make_rewrites(experiment, readers)
        write_record(paths, settings, {url: revision for each in sets for url, revision in each.revisions().items()})
        shards = list_shards(experiment.data, index=beside(experiment.output))
        keep_index(experiment.data, experiment.output, shards)
        write_rows(paths.rows, find_rows(paths.rows, experiment.data, shards, f"the sweep in {paths.location}"))
        most_rewrites = max((each.most_rewrites() for each in sets), default=0)
        budget = BudgetStopper(tune.budget, costs(read_stages(paths)))
        failures: dict[str, str] = {}
        try:
            if not budget.is_spent:
                failures = run_points(experiment, points, epochs, budget, most_rewrites)
        finally:  # also when the sweep is stopped
            sweep = Sweep(experiment, tuple(read_stages(paths)), most_rewrites)
            write_sweep(sweep)
        track_sweep(sweep)
    if unfinished := _unfinished(sweep, points, failures):
        lines = "\n".join(f"  {name}: {reason}" for name, reason in unfinished.items())
        resume = _continuation(budget.is_spent, bool(failures))
        raise IncompleteError(f"points that are not complete: {len(unfinished)}; {resume}\n{lines}")
    return sweep


def _finished_sweep(experiment: Experiment, points: Sequence[Point], readers: Sequence[Experiment]) -> Sweep | None:
    """The results of a sweep whose points and rewrites are all there, which needs no cluster; None if work is left.

    A search that chooses its points is never finished before it has been asked.
    """
    sweep = Sweep(experiment, tuple(read_stages(SweepPaths(experiment.tune_output))), 0, was_finished=True)
    if not points or not sweep.stages or _unfinished(sweep, points, {}):
        return None
    if any(reader.text.rewrites is None for reader in readers) and find_backlog(experiment).units:
        return None
    sets = [committed_sets(SetSelection.of(reader)) for reader in readers]
    return replace(sweep, rewrites=max((each.most_rewrites() for each in sets), default=0))


def _inputs(variants: Sequence[Experiment]) -> Inputs:
    """The paths and URLs that tasks read in a run of each point."""
    sections = ("data", "rewrite", "text", "model", "evaluate")
    return list(dict.fromkeys(each for variant in variants for each in inputs_on_nodes(variant, *sections)))


def _continuation(is_spent: bool, has_failures: bool) -> str:
    """When the same command resumes the points that are not complete."""
    if is_spent:
        return "tune.budget is spent; with a larger one the same command resumes them"
    if has_failures:
        return "their reasons say when the same command resumes them"
    return "the same command resumes them"


def _check_input(experiment: Experiment, points: Sequence[Point]) -> list[Experiment]:
    """Refuse bad input, before anything starts.

    Returns:
        A run of each point. If a search chooses the points, a run at the edge of its space.
    """
    tune = experiment.tune
    if len(set(tune.seeds)) < len(tune.seeds):
        raise UserError(f"tune.seeds: the same seed is given twice, in {tune.seeds}; remove one")
    edge = check_space(experiment, Space.of(tune), points)
    open_sets(experiment)
    objective_metric(tune, experiment.evaluate)
    _check_budget(tune, experiment.train, experiment.rewrite)
    variants = [run_experiment(experiment, point, tune.seeds[0]) for point in points or [edge]]
    for variant in variants:
        check_training(variant)
    return variants


def _check_budget(tune: TuneConfig, train: TrainConfig, rewrite: RewriteConfig) -> None:
    """Refuse a price that does not exist, and a budget of money without a price."""
    if training_price(train, rewrite) is None and tune.budget.money is not None:
        names = ", ".join(load_prices(rewrite.prices).prices)
        raise UserError(f"tune.budget.money needs train.price, a name of the price list ({names})")


def _readers(tune: TuneConfig, variants: Sequence[Experiment]) -> list[Experiment]:
    """The runs that read rewrites. A search may choose any p, so its run at the edge always counts."""
    any_p = tune.search == "optuna" and P_KEY in Space.of(tune).keys
    return [variant for variant in variants if any_p or variant.text.reads_rewrites]


def _make_rewrites(experiment: Experiment, readers: Sequence[Experiment]) -> list[RewriteSets]:
    """Make the rewrites that a run reads, and open the sets of each run.

    Raises:
        UserError: a set does not exist, or no rewrite has a score that a run's texts depend on.
    """
    if any(reader.text.rewrites is None for reader in readers):
        run_rewriting(experiment)
    sets = [committed_sets(SetSelection.of(reader)) for reader in readers]
    shard_names = [shard.name for shard in list_shards(experiment.data, index=beside(experiment.output))]
    for reader, rewrites in zip(readers, sets, strict=True):
        if reader.text.scores:
            check_scores(reader.text.scores, rewrites, rewrites.describe(), shard_names)
    return sets


def _unfinished(sweep: Sweep, points: Sequence[Point], failures: Mapping[str, str]) -> dict[str, str]:
    """Points without an end: neither complete nor ended early by the scheduler. With reasons."""
    tune, paths = sweep.experiment.tune, SweepPaths(sweep.experiment.tune_output)
    complete = sweep.values(sweep.metric)
    expected = points or [point for point in begun_points(paths) if Space.of(tune).contains(point.values)]
    return {
        point.name: failures.get(point.name, "not trained to the end")
        for point in expected
        if point.name not in complete and ended_epoch(paths, point, tune.halving) is None
    }
