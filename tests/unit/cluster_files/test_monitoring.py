"""The dashboard shows every gauge of the package and no others, and Prometheus scrapes Ray's metrics."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY, generate_latest

from laclip_ray.training.metrics import _GAUGES
from tests.unit.cluster_files.checks import DASHBOARD, PROMETHEUS, REPOSITORY, load

PREFIX = "ray_laclip_"
"""Ray's prefix, and that of `laclip_ray.training.metrics`."""
PANELS = load(DASHBOARD)["panels"]


def queries() -> Iterator[str]:
    """The queries of all panels and variables."""
    for panel in PANELS:
        yield from (target["expr"] for target in panel["targets"])
    for variable in load(DASHBOARD)["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]


def metrics(query: str) -> set[str]:
    """The metrics that a query names."""
    return set(re.findall(r"\bray_\w+", query))


@pytest.mark.parametrize("query", [*queries()])
def test_each_query_names_one_gauge_of_the_package(query: str) -> None:
    (name,) = metrics(query)
    assert name.removeprefix(PREFIX) in _GAUGES


def test_panels_show_all_gauges_once() -> None:
    shown = [name for panel in PANELS for target in panel["targets"] for name in metrics(target["expr"])]
    assert sorted(shown) == sorted(PREFIX + name for name in _GAUGES)


def test_no_other_module_makes_metrics() -> None:
    kinds = {"Gauge", "Counter", "Histogram"}
    makers = [
        path.relative_to(REPOSITORY).as_posix()
        for path in (REPOSITORY / "laclip_ray").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        and node.module == "ray.util.metrics"
        and kinds & {a.name for a in node.names}
    ]
    assert makers == ["laclip_ray/training/metrics.py"]


@pytest.mark.parametrize("gauge", _GAUGES)
def test_ray_exports_a_gauge_under_the_dashboard_s_name(gauge: str) -> None:
    recorder = pytest.importorskip("ray._private.telemetry.open_telemetry_metric_recorder")
    agent = recorder.OpenTelemetryMetricRecorder()
    agent.register_gauge_metric(f"laclip_{gauge}", "description")
    agent.set_metric_value(f"laclip_{gauge}", {"SessionName": "session_1"}, 0.25)
    exported = generate_latest(REGISTRY).decode()
    assert re.search(rf'^{PREFIX}{gauge}\{{.*SessionName="session_1".*\}} 0\.25$', exported, re.MULTILINE)


def test_panels_do_not_overlap() -> None:
    cells = [
        (x, y)
        for position in (panel["gridPos"] for panel in PANELS)
        for x in range(position["x"], position["x"] + position["w"])
        for y in range(position["y"], position["y"] + position["h"])
    ]
    assert len(cells) == len(set(cells))
    assert {x for x, _ in cells} == set(range(24))


def test_identifiers_are_unique() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for panel in PANELS:
        identifiers = [target["refId"] for target in panel["targets"]]
        assert len(set(identifiers)) == len(identifiers)


def test_queries_use_the_dashboard_s_variables() -> None:
    names = {variable["name"] for variable in load(DASHBOARD)["templating"]["list"]}
    for panel in PANELS:
        assert panel["datasource"]["uid"].strip("${}") in names
        for target in panel["targets"]:
            assert set(re.findall(r"\$(\w+)", target["expr"])) == {"session"}
    assert names == {"datasource", "session"}


def test_prometheus_asks_the_head_for_all_nodes_with_its_token() -> None:
    from ray.dashboard.modules.reporter import reporter_head

    (job,) = [job for job in load(PROMETHEUS)["scrape_configs"] if job["job_name"] == "ray"]
    (discovery,) = job["http_sd_configs"]
    path = discovery["url"].partition(":8265")[2]
    assert f'routes.get("{path}")' in Path(reporter_head.__file__).read_text()
    assert discovery["authorization"]["type"] == "Bearer"
