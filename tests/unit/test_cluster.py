"""Plans that do not fit are refused with the arithmetic."""

import pytest

from laclip_ray.cluster import Group, Plan, check_cpus, check_gpus, check_local
from laclip_ray.config import parse_experiment
from laclip_ray.errors import UserError

ENGINES = Group("engines", 2, 1.0, gpus=2.0)
WORKERS = Group("workers", 8, 2.0, gpus=1.0, fewest=4)
PLAN = Plan("run", (ENGINES, WORKERS), data_cpus=2)


def test_cpus_are_those_of_all_processes_and_of_the_tasks_beside_them() -> None:
    assert PLAN.cpus == 2 * 1 + 8 * 2 + 2
    check_cpus(PLAN, 20, "the cluster")
    with pytest.raises(UserError, match=r"needs 20 CPUs: 2 engines x 1 \+ 8 workers x 2 reserved, and 2 for .* has 19"):
        check_cpus(PLAN, 19, "the cluster")


def test_gpus_are_those_that_the_fewest_processes_need() -> None:
    check_gpus(PLAN, 8)
    with pytest.raises(UserError, match=r"needs 8 GPUs at once: 2 engines x 2 \+ 4 workers x 1; the cluster has 7"):
        check_gpus(PLAN, 7)


def test_processes_that_are_not_there_need_nothing() -> None:
    plan = Plan("run", (Group("engines", 0, 1.0, gpus=8.0), Group("workers", 1, 1.0)))
    check_gpus(plan, 0)
    check_cpus(plan, 2, "the cluster")


def test_what_a_ray_started_here_cannot_hold_is_refused_by_the_configuration_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = {"name": "plan", "output": "out", "data": {"path": "data"}}
    small = parse_experiment({**content, "ray": {"local_cpus": 19}})
    with pytest.raises(UserError, match=r"ray\.local_cpus has 19"):
        check_local(small, PLAN)
    check_local(parse_experiment(content), PLAN)  # as many as the plan needs
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")
    check_local(small, PLAN)  # it is the cluster's to say
