"""`laclip init` on twelve layouts of data: what its config passes."""

import functools
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from laclip_ray.cli import main
from laclip_ray.config import load_experiment, parse_experiment
from laclip_ray.data.held_out import is_held_out
from laclip_ray.data.shards import list_shards, read_samples
from laclip_ray.rewriting.forecasting import preview as preview_module
from tests import layouts
from tests.figures.figure import Figure, exit_code
from tests.integration.conftest import MODEL
from tests.integration.shared_engine import EngineHost, SharedEngine
from tests.layouts import Layout
from tests.real_models import real_model
from tests.unit.data.servers import Answer, http_server

CAPTIONS = 4
"""Of a preview."""
BATCH = 12
"""Fewer than the trained samples, and more than half of them: an epoch is one step."""
PORT = 23_917
"""Of the server of pictures. Their URLs are ids, which decide what is held out: 0 to 12 of 24 samples."""


def starts(show: int) -> Iterator[Figure]:
    """`laclip init` on twelve layouts: its config passes a dry run, a preview and one training step.

    The verbs run in this process on one Ray. The previews ask one engine with a real small model, SmolLM2-135M, in
    turn, because starting it twelve times would take a quarter of an hour. The step trains a small CLIP on captions.
    """
    import ray
    from ray.cluster_utils import Cluster

    os.environ["RAY_TRAIN_ENABLE_PRINT_PATCH"] = "0"
    with tempfile.TemporaryDirectory() as name, http_server(_picture, PORT) as (host_url, _):
        directory = Path(name)
        (directory / "model.json").write_text(json.dumps(MODEL))
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 6, "include_dashboard": False})
        ray.init(address=cluster.address, log_to_driver=False)
        try:
            chat = parse_experiment(
                {"name": "x", "output": "x", "data": {"path": "x"}, "rewrite": _rewrite_section()}
            ).rewrite
            host: Any = ray.remote(EngineHost).options(num_cpus=0, max_concurrency=64).remote({"chat": chat})
            preview = functools.partial(
                preview_module.run_preview, build_engine=functools.partial(SharedEngine, host=host)
            )
            with (
                patch.object(preview_module, "run_preview", preview),
                patch.object(preview_module, "kill_children_when_gone"),
            ):
                for layout in layouts.WITH_PICTURES:
                    yield from _start(show, layout, directory, host_url.rstrip("/"))
            ray.get(host.close.remote())
        finally:
            ray.shutdown()
            cluster.shutdown()


def _picture(path: str) -> Answer:
    number = int(Path(path).stem)
    return Answer(body=layouts.picture(number)) if number < layouts.PAIRS else Answer(404)


def _rewrite_section() -> dict[str, Any]:
    gate = {"meaning": {"model": str(real_model("all-minilm-l6-v2"))}}
    return {"model": str(real_model("smollm2-135m-instruct")), "mode": "chat", "gate": gate}


def _start(show: int, layout: Layout, directory: Path, host_url: str) -> Iterator[Figure]:
    name = layout.__name__
    data = layout(directory / name, host_url)
    config = str(directory / f"{name}.yaml")
    section = _rewrite_section()
    common = [f"output={directory / 'runs' / name}", "data.private_hosts=true"]
    rewrite = [f"rewrite.model={section['model']}", f"rewrite.gate.meaning.model={section['gate']['meaning']['model']}"]
    train = ["text.p=0", f"model.name={directory / 'model.json'}", "train.epochs=1", f"train.batch_size={BATCH}",
             "train.warmup_epochs=0"]  # fmt: skip
    verbs = {
        "init": ["init", data, "--output", config],
        "dry run": ["run", config, "--dry-run"],
        "check": ["data", "check", config, *common],
        "preview": ["rewrites", "preview", config, *common, *rewrite, "--captions", str(CAPTIONS)],
        "training": ["train", config, *common, *train],
    }
    for verb, words in verbs.items():
        yield exit_code(show, f"{name}: exit code of {verb}", _code(words))
    page = (directory / "runs" / name / "preview.html").read_text()
    yield Figure(show, f"{name}: captions previewed", page.count("<article"), "captions", CAPTIONS, CAPTIONS)
    summary = json.loads((directory / "runs" / name / "train" / "summary.json").read_text())
    yield Figure(show, f"{name}: training steps", summary["steps"], "steps", at_most=1, at_least=1)
    held_out = _held_out(config)
    yield Figure(show, f"{name}: samples held out", held_out, "samples", at_least=1)
    trained = layouts.PAIRS - held_out
    yield Figure(show, f"{name}: samples of an epoch", summary["samples_per_epoch"], "samples", trained, trained)


def _held_out(config: str) -> int:
    """The held-out samples of a config's data. One step counts only those beside the rows that it trained on."""
    data = load_experiment(config).data
    samples = (sample for shard in list_shards(data) for sample in read_samples(shard, data, with_images=False))
    return sum(is_held_out(sample, data) for sample in samples)


def _code(words: list[str]) -> int:
    """The exit code of a verb."""
    try:
        main(words)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0
