"""A sweep with Ray Tune: a trial is a point of the space, trained with every seed, stage by stage.

A trial trains all its seeds until an epoch, evaluates them, and tells Tune their mean; then Tune's scheduler says
whether the point goes on. So a point is ended or kept as a whole, and a search learns from a mean, not one seed's luck.

Guarantees: rewrites are made once, before the first run. What was measured is in storage (`trials/POINT/seedN/stages`),
and nothing else is needed to go on: a rerun of the same command reads it, tells the scheduler and the search of it,
continues what died, and trains nothing twice. Tune's own snapshots are not read: they are pickles.
Not covered: where there are more points than room, a point's seeds are trained one after another, also at the end, when
there would be room for several.
"""

import logging
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from laclip_ray import cluster, storage
from laclip_ray.config import Experiment
from laclip_ray.data.shards import list_shards
from laclip_ray.errors import IncompleteError, UserError
from laclip_ray.evaluation.run import check_evaluation
from laclip_ray.rewriting.pipeline import run_rewriting
from laclip_ray.rewriting.prices import load_prices
from laclip_ray.rewriting.sets import SetSelection, committed_sets
from laclip_ray.training.run import check_training, count_rows, worker_group
from laclip_ray.tuning.results import Sweep, objective_metric, write_sweep
from laclip_ray.tuning.schedulers import OBJECTIVE, BudgetStopper, Halving, Spent, TreeSearch
from laclip_ray.tuning.space import (
    P_KEY,
    Point,
    baseline_ps,
    check_space,
    constant_p,
    is_within,
    listed_points,
    suggested_point,
    swept_keys,
)
from laclip_ray.tuning.sweep_record import check_place, record
from laclip_ray.tuning.trial import (
    ROWS_FILE,
    Stage,
    begin_point,
    begun_points,
    end_point,
    ended_epoch,
    price_of_training,
    read_stages,
    run_experiment,
    run_stages,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Capacity:
    """How much goes on at a time."""

    points: int
    seeds_each: int


def run_sweep(experiment: Experiment) -> Sweep:
    """Make the rewrites that are missing, train and evaluate every point, and write what they say.

    Raises:
        UserError: bad input, before anything starts.
        IncompleteError: a run failed, the budget is spent, or the sweep was stopped; what is there is written.
    """
    tune = experiment.tune
    cluster.check_local(experiment.ray, _plan(experiment, 1))  # before models are looked at, which takes seconds
    if len(set(tune.seeds)) < len(tune.seeds):
        raise UserError("tune.seeds: the same seed is given twice")
    edge = check_space(experiment)
    points = listed_points(experiment) if tune.search != "optuna" else []
    check_evaluation(experiment)
    objective_metric(experiment)
    _check_budget(experiment)
    variants = [run_experiment(experiment, point, tune.seeds[0]) for point in points or [edge]]
    for variant in variants:
        check_training(variant)
    epochs = stages_of(experiment)
    check_place(experiment, epochs)
    cluster.connect(experiment.ray, _plan(experiment, 1), {"tune.output": experiment.tune_output})
    # A search may choose any p of a range, whatever is at its edge.
    any_p = not points and P_KEY in swept_keys(experiment)
    readers = [variant for variant in variants if any_p or variant.text.reads_rewrites]
    if any(reader.text.rewrites is None for reader in readers):
        run_rewriting(experiment)
    sets = [committed_sets(SetSelection.of(reader)) for reader in readers]
    revisions = {url: number for each in sets for url, number in each.revisions().items()}
    record(experiment, epochs, revisions)
    rows_url = storage.join(experiment.tune_output, ROWS_FILE)
    if not storage.exists(rows_url):
        storage.write_json(rows_url, count_rows(experiment, list_shards(experiment.data)))
    most = max((each.most_rewrites() for each in sets), default=0)
    budget = BudgetStopper(experiment, _spent(experiment))
    failures: dict[str, str] = {}
    try:
        if not budget.is_spent:
            failures = _run_points(experiment, points, epochs, budget, most)
    finally:  # also of a sweep that is stopped
        sweep = Sweep(experiment, tuple(read_stages(experiment)), most)
        write_sweep(sweep)
    unfinished = _unfinished(sweep, points, failures)
    if unfinished:
        goes_on = "tune.budget is spent; with a larger one the" if budget.is_spent else "the"
        lines = "\n".join(f"  {name}: {why}" for name, why in unfinished.items())
        raise IncompleteError(
            f"points that are not complete: {len(unfinished)}; {goes_on} same command goes on with them\n{lines}"
        )
    return sweep


def _check_budget(experiment: Experiment) -> None:
    """Refuse a price or a budget that could not be applied."""
    price = price_of_training(experiment)
    if price is not None:
        load_prices(experiment.rewrite.prices).price(price)
    elif experiment.tune.budget.money is not None:
        known = ", ".join(load_prices(experiment.rewrite.prices).prices)
        raise UserError(f"tune.budget.money needs train.price, a name of the price list ({known})")


def _spent(experiment: Experiment) -> dict[str, Spent]:
    """What points have cost so far, by name."""
    last = {(stage.point, stage.seed): stage for stage in read_stages(experiment)}  # in the order of epochs
    found: dict[str, Spent] = {}
    for (point, _), stage in last.items():
        gpu_hours, money = found.get(point, (0.0, 0.0))
        found[point] = (gpu_hours + stage.gpu_hours, money + (stage.money or 0.0))
    return found


def _unfinished(sweep: Sweep, points: Sequence[Point], failures: Mapping[str, str]) -> dict[str, str]:
    """Points that are neither trained to the end nor ended by the scheduler, and why."""
    experiment = sweep.experiment
    complete = sweep.values(sweep.metric)
    known = points or [point for point in begun_points(experiment) if is_within(experiment, point.values)]
    left = [point for point in known if point.name not in complete and ended_epoch(experiment, point) is None]
    return {point.name: failures.get(point.name, "not trained to the end") for point in left}


def _plan(experiment: Experiment, runs: int) -> cluster.Reservation:
    """What so many runs at a time reserve, each with a CPU for its point and one for Ray Data."""
    workers = worker_group(experiment)
    groups = (
        cluster.ResourceGroup("points", runs, 1.0),
        replace(workers, processes=runs * workers.processes, fewest=None),
    )
    return cluster.Reservation("tune", groups, data_cpus=runs)


def _capacity(experiment: Experiment, points: int) -> Capacity:
    """As many runs at a time as the cluster holds and the configuration allows.

    Of a cluster that grows, as many as it holds at its largest: then each run gets what it needs, and none holds for
    ever what another one is waiting for.

    Raises:
        UserError: the cluster does not hold one, or grows and does not say how far.
    """
    seeds = len(experiment.tune.seeds)
    most = experiment.tune.max_concurrent_runs or points * seeds
    resources = _largest_resources(experiment)
    if resources is not None:
        one = _plan(experiment, 1)
        cluster.check_cpus(one, resources.get("CPU", 0), "the cluster, at its largest,")
        most = min(most, int(resources.get("CPU", 0) // one.cpus))
        gpus = sum(group.processes * cluster.gpus_per_process(group.gpus) for group in one.groups)
        if gpus:
            cluster.check_gpus(one, resources.get("GPU", 0))
            most = min(most, int(resources.get("GPU", 0) // gpus))
    if not experiment.ray.autoscaling:
        workers = worker_group(experiment)
        most = min(
            most, cluster.count_fitting(workers, cluster.alive_nodes(), most * workers.processes) // workers.processes
        )
    seeds_each = min(seeds, max(1, most // points))
    return Capacity(points=max(1, most // seeds_each), seeds_each=seeds_each)


def _largest_resources(experiment: Experiment) -> Mapping[str, float] | None:
    """What the cluster holds, at its largest if it grows; None if that is for `tune.max_concurrent_runs` to say."""
    import ray
    from ray._private.state import state

    if not experiment.ray.autoscaling:
        return dict(ray.cluster_resources())
    largest: Mapping[str, float] | None = state.get_max_resources_from_cluster_config()
    if not largest and experiment.tune.max_concurrent_runs is None:
        raise UserError(
            "ray.autoscaling: true, and this cluster does not say how far it grows; set tune.max_concurrent_runs to "
            "the runs that it holds at its largest: with more they would wait for one another"
        )
    return largest or None


def stages_of(experiment: Experiment) -> list[int]:
    """The epochs after which runs are evaluated, the last one included."""
    tune, epochs = experiment.tune, experiment.train.epochs
    found = {epochs}
    if tune.evaluate_every_epochs:
        found |= set(range(tune.evaluate_every_epochs, epochs, tune.evaluate_every_epochs))
    if tune.halving:
        epoch = tune.halving.first_epochs
        while epoch < epochs:
            found.add(epoch)
            epoch *= tune.halving.reduction
    return sorted(found)


def _run_points(
    experiment: Experiment, points: Sequence[Point], epochs: Sequence[int], budget: BudgetStopper, most: int
) -> dict[str, str]:
    """Train and evaluate all points, as far as the scheduler and the budget let them; why points failed, by name.

    Args:
        experiment: the configuration.
        points: all of them; none where a search chooses.
        epochs: after which runs are evaluated.
        budget: what ends the sweep.
        most: rewrites that a caption has at most.
    """
    import ray.tune

    tune = experiment.tune
    capacity = _capacity(experiment, len(points) or tune.points)
    # Where nobody decides between two evaluations, training goes through all of them at once.
    is_decided = tune.halving is not None or tune.budget.gpu_hours is not None or tune.budget.money is not None
    parts = [[epoch] for epoch in epochs] if is_decided else [list(epochs)]
    reached = _reached(experiment)

    def point_of(values: Mapping[str, Any]) -> Point:
        return suggested_point(experiment, values) if tune.search == "optuna" else Point(values)

    def train_point(config: dict[str, Any]) -> None:
        point = point_of(config["values"])
        begin_point(experiment, point)
        last = ended_epoch(experiment, point)
        for number, part in enumerate(parts):
            if number and last is not None and part[-1] > last:
                return
            for stages in zip(*_train_seeds(experiment, point, part, capacity.seeds_each), strict=True):
                ray.tune.report(_summary(experiment, stages))

    search = _tree_search(experiment) if tune.search == "optuna" else None
    scheduler = None
    if tune.halving is not None:
        scheduler = Halving(
            experiment,
            reached=lambda values: reached.get(point_of(values).name, 0),
            end=lambda values, epoch: end_point(experiment, point_of(values), epoch),
            spared=lambda values: _is_baseline(point_of(values), most),
        )
    grid = [dict(point.values) for point in points]
    ray_filesystem, path = storage.ray_filesystem(storage.join(experiment.tune_output, "ray"))
    logging.getLogger("ray.tune.tune").setLevel(logging.ERROR)  # after Ctrl-C it advises to restore its snapshots
    tuner = ray.tune.Tuner(
        ray.tune.with_resources(train_point, {"CPU": 1}),
        param_space={"values": ray.tune.grid_search(grid)} if search is None else None,
        tune_config=ray.tune.TuneConfig(
            search_alg=search,
            scheduler=scheduler,
            num_samples=1 if search is None else search.left,
            max_concurrent_trials=capacity.points,
            trial_dirname_creator=lambda trial: trial.trial_id,  # not all of the values in one name
        ),
        run_config=ray.tune.RunConfig(
            name=f"start-{time.time_ns()}",
            storage_path=path,
            storage_filesystem=ray_filesystem,
            failure_config=ray.tune.FailureConfig(max_failures=tune.max_failures),
            stop=budget,
            verbose=0,
        ),
    )
    results = tuner.fit()
    failures = {}
    for result in (results[number] for number in range(len(results))):
        if result.error is not None:
            failures[point_of((result.config or {})["values"]).name] = str(result.error).strip().splitlines()[-1]
    return failures


def _reached(experiment: Experiment) -> dict[str, int]:
    """The epoch until which all seeds of a point are trained and evaluated, by the point's name."""
    seeds: dict[str, dict[int, int]] = {}
    for stage in read_stages(experiment):  # in the order of epochs
        seeds.setdefault(stage.point, {})[stage.seed] = stage.epoch
    return {point: min(found.get(seed, 0) for seed in experiment.tune.seeds) for point, found in seeds.items()}


def _is_baseline(point: Point, most: int) -> bool:
    """Whether all others will be held against a point: p = 0 and the paper's choice, where nothing but p is swept."""
    return len(point.values) == 1 and constant_p(point.values.get(P_KEY), most) in baseline_ps(most)


def _train_seeds(experiment: Experiment, point: Point, epochs: Sequence[int], at_once: int) -> list[list[Stage]]:
    """Train a point's seeds until the last epoch, each in a task, and evaluate them after each; by seed.

    An error is raised when all of them have ended.
    """
    import ray

    # Done again where its node or process is lost: it goes on from its checkpoint.
    retries = experiment.tune.max_failures
    task: Any = ray.remote(num_cpus=0, max_retries=retries, scheduling_strategy="SPREAD")(run_stages)
    waiting = list(experiment.tune.seeds)
    running: dict[Any, int] = {}
    found: list[list[Stage]] = []
    errors: list[str] = []
    while waiting or running:
        while waiting and len(running) < at_once:
            seed = waiting.pop(0)
            running[task.remote(experiment, point, seed, epochs)] = seed
        (ended,), _ = ray.wait(list(running), num_returns=1)
        seed = running.pop(ended)
        try:
            found.append(ray.get(ended))
        except Exception as error:
            logger.exception("seed %d of %s ended early", seed, point.name)
            cause = getattr(error, "cause", None) or error  # Ray's own error holds the task's whole trace
            errors.append(f"seed {seed}: {' '.join(str(cause).split())}")
    if errors:
        raise IncompleteError("; ".join(errors))
    return found


def _summary(experiment: Experiment, stages: Sequence[Stage]) -> dict[str, Any]:
    """What Tune is told of a point at a stage."""
    metric = objective_metric(experiment)
    money = [stage.money for stage in stages if stage.money is not None]
    return {
        OBJECTIVE: statistics.fmean(stage.metrics[metric] for stage in stages),
        "point": stages[0].point,
        "epoch": stages[0].epoch,
        "gpu_hours": sum(stage.gpu_hours for stage in stages),
        "money": sum(money) if money else None,
    }


def _tree_search(experiment: Experiment) -> TreeSearch:
    """A search that knows what is in storage, as far as it is of its space."""
    reached, finished, begun = _reached(experiment), [], []
    for point in begun_points(experiment):
        if not is_within(experiment, point.values):
            continue
        last = ended_epoch(experiment, point) or experiment.train.epochs
        if reached.get(point.name, 0) >= last:
            stages = [stage for stage in read_stages(experiment, point.name) if stage.epoch == last]
            by_seed = [stage for stage in stages if stage.seed in experiment.tune.seeds]
            finished.append((point.values, _summary(experiment, by_seed)[OBJECTIVE]))
        else:
            begun.append(point.values)
    return TreeSearch(experiment, finished, begun)
