"""Figures of the requests to a real S3 server, counted by a proxy: of rewriting, of training and of logs.

Numbers are marginal: (requests of a long run - requests of a short run) / (what the long run has more), so those of a
run's start and end cancel out. Requests at fixed times, of the lease and of progress, are left out.
"""

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from laclip_ray import storage
from laclip_ray.config import Experiment, parse_experiment
from laclip_ray.lease import LEASE_FILE
from laclip_ray.rewriting.running.pipeline import run_rewriting
from laclip_ray.rewriting.storing.progress_file import PROGRESS_FILE
from laclip_ray.training.metrics import read_metrics
from laclip_ray.training.run import run_training
from tests import object_store
from tests.figures.figure import Figure
from tests.integration.conftest import MODEL, good_samples, write_shard
from tests.integration.procedures import free_port
from tests.integration.scripted_engine import ScriptedEngine
from tests.s3_proxy import Request, S3Proxy, s3_proxy

SHARDS = 10
"""Of the short run; the long one has twice as many."""
SAMPLES = 16
SETS = ("crowd", "cleaned")
_KINDS = ("GET", "PUT", "HEAD", "LIST", "DELETE", "MULTIPART")

Counts = Counter[str]
"""Requests by kind."""


@contextmanager
def counted_store(directory: Path) -> Iterator[S3Proxy]:
    """A real S3 server behind a proxy, with a bucket `figures`; this process and Ray, started later, use it."""
    import s3fs

    port = free_port()
    before = dict(os.environ)
    with object_store.object_store(directory, port), s3_proxy(port) as proxy:
        os.environ.update(object_store.CREDENTIALS, AWS_ENDPOINT_URL=proxy.url)
        s3fs.S3FileSystem.clear_instance_cache()  # an earlier one asks the server of another figure
        try:
            s3fs.S3FileSystem().mkdir("figures")
            yield proxy
        finally:
            os.environ.clear()
            os.environ.update(before)


@contextmanager
def local_ray() -> Iterator[None]:
    """A Ray of this process's own."""
    import ray

    os.environ["RAY_TRAIN_ENABLE_PRINT_PATCH"] = "0"
    ray.init(num_cpus=6, include_dashboard=False, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def experiment_on(location: str, directory: Path, shards: int, **sections: Any) -> Experiment:
    """An experiment whose data, of so many shards, and outputs are below a URL."""
    for number in range(shards):
        url = f"{location}/data/{number:03d}.tar"
        if not storage.exists(url):
            file = directory / "tars" / f"{number:03d}.tar"
            write_shard(file, good_samples(number * SAMPLES, SAMPLES))
            storage.write_bytes(url, file.read_bytes())
    model = directory / "model.json"
    storage.write_json(str(model), MODEL)
    content: dict[str, Any] = {
        "name": "figures",
        "output": f"{location}/out",
        "data": {"path": f"{location}/data"},
        "rewrite": {"model": "demo-rewriter", "prompt_sets": list(SETS)},
        "model": {"name": str(model)},
        "stream": {"rows_per_block": 16},
        "text": {"p": 0.5},
        "train": {"epochs": 1, "batch_size": 16, "workers": 1, "warmup_epochs": 0.5, "log_every_steps": 1},
    }
    for name, section in sections.items():
        content[name] = {**content.get(name, {}), **section}
    return parse_experiment(content)


def requests(show: int) -> Iterator[Figure]:
    """Requests of a (set, shard) in rewriting, of an entry in training, and of a line of a log."""
    with tempfile.TemporaryDirectory() as name, counted_store(Path(name) / "store") as proxy, local_ray():
        few, many = (experiment_on(f"s3://figures/{count}", Path(name), count) for count in (SHARDS, 2 * SHARDS))
        run_rewriting(experiment_on("s3://figures/first", Path(name), 1), ScriptedEngine)  # starts the processes
        short = _counted(proxy, lambda: run_rewriting(few, ScriptedEngine))
        long = _counted(proxy, lambda: run_rewriting(many, ScriptedEngine))
        yield from _figures(show, "rewriting, a (set, shard)", _per(short, long, SHARDS * len(SETS)), at_most=8)
        again = _counted(proxy, lambda: run_rewriting(few, ScriptedEngine))
        twice = _counted(proxy, lambda: run_rewriting(many, ScriptedEngine))
        yield from _figures(show, "a rerun with nothing to do, a (set, shard)", _per(again, twice, SHARDS * len(SETS)))
        yield from _training(show, proxy, Path(name))


def _training(show: int, proxy: S3Proxy, directory: Path) -> Iterator[Figure]:
    by_epochs: dict[int, tuple[list[Request], int]] = {}
    for epochs in (1, 3):
        sections = {"train": {"epochs": epochs, "output": f"s3://figures/trained-{epochs}"}}
        experiment = experiment_on(f"s3://figures/{SHARDS}", directory, SHARDS, **sections)
        proxy.take()
        run_training(experiment)
        by_epochs[epochs] = proxy.take(), len(read_metrics(experiment.train_output))
        proxy.take()
    (short, few), (long, many) = by_epochs[1], by_epochs[3]
    before, after = (_kinds(request for request in of_run if _is_input(request)) for of_run in (short, long))
    yield from _figures(show, "training, an entry (shard, epoch) with two sets", _per(before, after, 2 * SHARDS))
    before, after = (_kinds(request for request in of_run if _is_log(request)) for of_run in (short, long))
    yield from _figures(show, "training, a log line", _per(before, after, many - few), at_most=0.1)


def _counted(proxy: S3Proxy, run: Callable[[], Any]) -> Counts:
    """The requests of a run by kind, without those at fixed times."""
    proxy.take()
    run()
    return _kinds(request for request in proxy.take() if not _is_at_fixed_times(request))


def _is_at_fixed_times(request: Request) -> bool:
    return LEASE_FILE in request.key or request.key.endswith(PROGRESS_FILE)


def _kinds(found: Iterable[Request]) -> Counts:
    return Counter(request.kind for request in found)


def _is_input(request: Request) -> bool:
    return "/data/" in request.key or "/rewrites/" in request.key


def _is_log(request: Request) -> bool:
    return "/metrics.jsonl" in request.key or "/tensorboard" in request.key


def _per(short: Counts, long: Counts, count: int) -> dict[str, float]:
    return {kind: (long[kind] - short[kind]) / count for kind in _KINDS}


def _figures(show: int, name: str, by_kind: Mapping[str, float], at_most: float | None = None) -> Iterator[Figure]:
    yield Figure(show, f"{name}: all", sum(by_kind.values()), "requests", at_most=at_most)
    for kind, value in by_kind.items():
        is_barred = at_most is not None and kind == "LIST"
        if value or is_barred:
            yield Figure(show, f"{name}: {kind}", value, "requests", at_most=0 if is_barred else None)
