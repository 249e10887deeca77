"""`laclip plan` finds out what `laclip run` would do, without starting it."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from laclip_ray import storage
from laclip_ray.cluster import check_gpus
from laclip_ray.config import Experiment, WorkerRange, parse_experiment, with_overrides
from laclip_ray.console import print_plan
from laclip_ray.data.schedule import Schedule
from laclip_ray.errors import UserError
from laclip_ray.onejob.plan import RunPlan, plan_run
from laclip_ray.onejob.priority import sort_by_priority
from laclip_ray.onejob.resources import fit_to_cluster, reservations
from laclip_ray.rewriting.running.backlog import find_backlog
from tests.unit.conftest import picture, write_tar

SHARDS, SAMPLES = 5, 4


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    """Five tars of four samples, two prompt sets, three epochs."""
    image = picture("JPEG")
    for shard in range(SHARDS):
        members = [
            (f"{shard}-{row}.{kind}", content)
            for row in range(SAMPLES)
            for kind, content in (("jpg", image), ("txt", f"a red cup on table {shard} {row}".encode()))
        ]
        write_tar(tmp_path / "data" / f"{shard}.tar", members)
    return parse_experiment(
        {
            "name": "plans",
            "output": str(tmp_path / "out"),
            "data": {"path": str(tmp_path / "data")},
            "rewrite": {
                "model": "demo-rewriter",
                "prompt_sets": ["cleaned", "crowd"],
                "price": "l4",
                "engine": {"actors": {"min": 1, "max": 3}, "gpus_per_actor": 1},
            },
            "train": {"epochs": 3, "batch_size": 8, "workers": {"min": 1, "max": 2}, "gpus_per_worker": 1},
        }
    )


def printed(plan: RunPlan) -> str:
    console = Console(file=io.StringIO(), width=200)
    print_plan(console, plan)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_plan_counts_processes_shards_epochs_and_steps(experiment: Experiment) -> None:
    plan = plan_run(experiment)
    assert (plan.fewest_engines, plan.engines.processes, plan.workers.min_processes, plan.workers.processes) == (
        1,
        3,
        1,
        2,
    )
    assert (plan.shards, plan.shards_done, plan.left_share, plan.epochs_left, plan.steps_left) == (5, 0, 1.0, 3.0, 7)
    assert not Path(experiment.output).exists()


def test_a_plan_tells_doubtful_settings_and_leaves_held_out_samples_out(experiment: Experiment) -> None:
    plan = plan_run(with_overrides(experiment, {"train.batch_size": 20, "data.held_out": 0.2}))
    assert plan.steps_left == 3 * 16 // 20
    batch, evaluation = plan.doubts
    assert batch.startswith("train.batch_size: a batch of 20 is larger than the data (16 samples an epoch)")
    assert evaluation.startswith("evaluate: no set is configured")
    assert all(doubt in printed(plan).replace("\n", " ") for doubt in ("larger than the data", "no set is configured"))


def test_without_the_speed_of_training_there_is_no_forecast_and_it_says_so(experiment: Experiment) -> None:
    plan = plan_run(experiment)
    assert plan.forecasts == ()
    assert plan.cheapest is None
    assert "train.expected_images_per_s" in printed(plan)


def test_with_the_expected_speed_each_delivery_has_its_hours_and_money(experiment: Experiment) -> None:
    plan = plan_run(with_overrides(experiment, {"train.expected_images_per_s": 2.0, "ray.autoscaling": True}))
    ahead, inline, follow = plan.forecasts
    epoch_hours = SHARDS * SAMPLES / 2.0 / 3_600
    rewriting_hours = plan.estimate.costs[0].gpu_hours / 3
    assert ahead.hours == pytest.approx(rewriting_hours + 3 * epoch_hours)
    assert inline.hours == pytest.approx(max(rewriting_hours, epoch_hours) + 2 * epoch_hours)
    assert follow.hours == pytest.approx(max(rewriting_hours, 3 * epoch_hours))
    assert ahead.gpu_hours == pytest.approx(3 * rewriting_hours + 2 * 3 * epoch_hours)
    cost = plan.estimate.costs[0]
    assert cost.money is not None
    assert ahead.money == pytest.approx(ahead.gpu_hours * cost.money / cost.gpu_hours)
    text = printed(plan)
    assert plan.cheapest is not None
    assert f"cheapest: {plan.cheapest.delivery}" in text
    assert "as expected" in text


def test_a_measured_speed_replaces_the_expected_one(experiment: Experiment) -> None:
    rows = [{"images_per_s": value, "waiting_share": 0.0, "epoch": 2.0} for value in (10.0, 500.0, 30.0)]
    storage.write_bytes(
        storage.join(experiment.train_output, "metrics.jsonl"), "".join(json.dumps(row) + "\n" for row in rows).encode()
    )
    storage.write_json(storage.join(experiment.train_output, "experiment.json"), experiment.model_dump(mode="json"))
    plan = plan_run(with_overrides(experiment, {"train.expected_images_per_s": 2.0}))
    assert (plan.images_per_s, plan.is_measured) == (30.0, True)


def test_the_speed_is_measured_without_the_time_spent_waiting_for_rewrites(experiment: Experiment) -> None:
    line = {"images_per_s": 10.0, "waiting_share": 0.75, "shards_to_rewrite": SHARDS, "epoch": 0.5}
    waited, own = {**line, "rewritten_shards": 2}, {**line, "rewritten_shards": SHARDS}
    given_up = {**waited, "epoch": 1.5}

    def measured(row: dict[str, float], delivery: str) -> float | None:
        run = with_overrides(experiment, {"rewrite.delivery": delivery})
        storage.write_bytes(storage.join(run.train_output, "metrics.jsonl"), json.dumps(row).encode())
        storage.write_json(storage.join(run.train_output, "experiment.json"), run.model_dump(mode="json"))
        return plan_run(run).images_per_s

    assert [measured(row, "inline") for row in (waited, own, given_up)] == [40.0, 10.0, 10.0]
    assert measured(waited, "follow") == 10.0  # it waits only for reading


def test_without_the_speed_of_training_rewriting_has_its_hours_and_money(experiment: Experiment) -> None:
    cost = plan_run(experiment).estimate.costs[0]
    assert cost.money is not None
    assert f"Rewriting takes {cost.gpu_hours:,.2f} GPU-hours and {cost.money:,.2f} USD" in printed(plan_run(experiment))


def test_a_plan_says_which_nodes_processes_use(experiment: Experiment) -> None:
    changes = {"rewrite.engine.accelerator_type": "L4", "rewrite.engine.label_selector": {"pool": "spot"}}
    text = printed(plan_run(with_overrides(experiment, changes)))
    assert "L4, pool: spot" in text
    assert "any" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text.p": 0.0}, "text.p"),
        ({"text.rewrites": ["elsewhere"]}, "text.rewrites"),
        (
            {"text.choice": {"by": "log_probability", "temperature": 1.0}, "rewrite.log_probability": False},
            r"text\.choice\.by: rewrite\.log_probability is off",
        ),
    ],
)
def test_a_job_whose_training_ignores_its_rewrites_or_lacks_their_scores_is_refused(
    experiment: Experiment, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        plan_run(with_overrides(experiment, changes))


def test_shards_are_rewritten_in_the_order_of_the_first_epoch(experiment: Experiment) -> None:
    backlog = find_backlog(experiment)
    sort_by_priority(backlog)
    names = list(backlog.shards)
    schedule = Schedule(SHARDS, 3, experiment.seed)
    needed = [names[schedule.entry(index).shard] for index in range(SHARDS)]
    assert needed != sorted(needed)
    assert [unit.shard for unit in backlog.to_draw] == [name for name in needed for _ in range(2)]


def test_both_halves_are_reserved_at_once_only_if_they_run_at_once(experiment: Experiment) -> None:
    def of(delivery: str) -> list[tuple[list[str], float]]:
        phases = reservations(find_backlog(with_overrides(experiment, {"rewrite.delivery": delivery})))
        return [([group.name for group in phase.groups], phase.cpus) for phase in phases]

    assert of("inline") == of("follow") == [(["engines", "picture models", "sentence encoders", "workers"], 1 + 2 + 4)]
    assert of("ahead") == [(["workers"], 3), (["engines", "picture models", "sentence encoders"], 2)]


def test_models_of_the_picture_gate_are_reserved_with_their_gpus(experiment: Experiment) -> None:
    gate = {"model": "ViT-B-32", "pretrained": "openai", "actors": {"min": 2, "max": 4}, "gpus_per_actor": 0.5}
    (reservation,) = reservations(
        find_backlog(with_overrides(experiment, {"rewrite.delivery": "inline", "rewrite.gate.picture": gate}))
    )
    scorers = reservation.groups[1]
    assert (scorers.processes, scorers.cpus, scorers.gpus) == (2, 1.0, 0.5)
    with pytest.raises(UserError, match=r"1 engines x 1 \+ 2 picture models x 0.5 \+ 1 workers x 1; the cluster has 2"):
        check_gpus(reservation, 2.0)


@pytest.mark.parametrize(
    ("gpus", "engines", "workers"),
    [
        (9.0, 3, 2),
        (4.0, 2, 2),  # workers come first
        (2.0, 1, 1),  # one engine is kept for rewriting, and leaves one worker
    ],
)
def test_engines_and_workers_are_limited_to_what_the_cluster_holds_of_both(
    experiment: Experiment, gpus: float, engines: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    resources = {"CPU": 64.0, "GPU": gpus}
    monkeypatch.setattr("ray.cluster_resources", lambda: resources)
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True, "Resources": resources}])
    bounded = fit_to_cluster(find_backlog(experiment)).experiment
    assert bounded.rewrite.engine.actors == WorkerRange(min=1, max=engines)
    assert bounded.train.worker_range == WorkerRange(min=1, max=workers)


def test_workers_on_other_nodes_do_not_limit_engines(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 32.0, "GPU": 4.0, f"accelerator_type:{name}": 1.0}}
        for name in ("L4", "H100")
    ]
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 64.0, "GPU": 8.0})
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    apart = with_overrides(
        experiment,
        {
            "rewrite.engine.accelerator_type": "L4",
            "train.accelerator_type": "H100",
            "train.workers": {"min": 4, "max": 8},
            "train.batch_size": 8,
        },
    )
    bounded = fit_to_cluster(find_backlog(apart)).experiment
    assert bounded.rewrite.engine.actors.max == 3
    assert bounded.train.worker_range == WorkerRange(min=4, max=4)
    together = with_overrides(apart, {"train.accelerator_type": "L4", "train.workers": {"min": 1, "max": 2}})
    bounded = fit_to_cluster(find_backlog(together)).experiment
    assert (bounded.rewrite.engine.actors.max, bounded.train.worker_range.max) == (2, 2)


def test_with_nothing_left_to_draw_no_engine_costs_anything(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = with_overrides(experiment, {"train.expected_images_per_s": 2.0})
    backlog = find_backlog(expected)
    backlog.to_draw.clear()
    monkeypatch.setattr("laclip_ray.onejob.plan.find_backlog", lambda _: backlog)
    plan = plan_run(expected)
    assert plan.engines.processes == 0
    assert {each.gpu_hours for each in plan.forecasts} == {2 * plan.forecasts[0].hours}


def test_an_unknown_price_is_named_by_its_setting(experiment: Experiment) -> None:
    changes = {"train.expected_images_per_s": 2.0, "train.price": "nobody's"}
    with pytest.raises(UserError, match=r"train\.price"):
        plan_run(with_overrides(experiment, changes))


def test_a_growing_cluster_sets_no_limit(experiment: Experiment) -> None:
    growing = with_overrides(experiment, {"ray.autoscaling": True})
    assert fit_to_cluster(find_backlog(growing)).experiment == growing
