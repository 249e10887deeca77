"""The stream sizes its store and its processes by the tasks that read."""

import pytest

from laclip_ray.data import stream
from laclip_ray.data.entries import StreamSpec


@pytest.mark.parametrize(("bound", "tasks"), [(None, 6), (3, 3)])
def test_read_ahead_adds_a_few_blocks_per_task_to_the_rows(
    spec: StreamSpec, bound: int | None, tasks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 6.0})
    monkeypatch.setattr("laclip_ray.cluster.tasks_at_once", lambda: bound)
    row_bytes = stream._row_bytes(spec)
    assert stream.read_ahead_bytes(spec, 1_000) == (1_000 + 4 * tasks * spec.stream.rows_per_block) * row_bytes


@pytest.mark.parametrize(
    ("nodes", "tasks", "free_cpus", "processes"),
    [(1, 3, 8.0, 3), (1, 3, 2.5, 2), (1, 3, 0.0, 0), (1, 64, 60.0, 4), (2, 3, 8.0, 0)],
)
def test_warm_up_starts_as_many_processes_as_will_read_first(
    nodes: int, tasks: int, free_cpus: float, processes: int
) -> None:
    assert stream._processes_to_warm(nodes, tasks, free_cpus) == processes
