"""One local Ray for all tests that need one, and small datasets."""

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from laclip_ray.config import Experiment, parse_experiment
from tests import object_store
from tests.integration.procedures import free_port
from tests.s3_proxy import S3Proxy, s3_proxy

MODEL = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="session")
def object_store_port() -> int:
    """Where the S3 server answers, if a test starts it. Ray's processes get its address when Ray starts."""
    port = free_port()
    os.environ.update(object_store.CREDENTIALS, AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}")
    return port


@pytest.fixture(scope="session")
def s3_faults(object_store_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Proxy]:
    """A proxy before a real S3 server, where the server is expected to answer; it can inject faults."""
    server_port = free_port()
    with (
        object_store.object_store(tmp_path_factory.mktemp("object-store"), server_port),
        s3_proxy(server_port, object_store_port) as proxy,
    ):
        yield proxy


@pytest.fixture(scope="session")
def bucket(s3_faults: S3Proxy) -> str:
    """The URL of a bucket in a real S3 server."""
    import s3fs

    s3fs.S3FileSystem().mkdir("tests")
    return "s3://tests"


@pytest.fixture(scope="session")
def local_ray(object_store_port: int) -> Iterator[Any]:
    """A Ray with 6 logical CPUs that in-process runs connect to; its `Cluster`, which takes further nodes."""
    import ray
    from ray.cluster_utils import Cluster

    os.environ["RAY_TRAIN_ENABLE_PRINT_PATCH"] = "0"
    os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = "0.2"  # each checkpoint, start and end waits for the next check
    os.environ["RAY_idle_worker_killing_time_threshold_ms"] = "60000"  # noqa: SIM112 - as `laclip` sets it
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 6, "include_dashboard": False})
    ray.init(address=cluster.address, log_to_driver=True)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def jpeg(seed: int, size_px: int = 40) -> bytes:
    """An encoded picture with some structure."""
    pixels = np.random.Generator(np.random.Philox(seed)).integers(0, 255, (5, 5, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((size_px, size_px)).save(buffer, "JPEG")
    return buffer.getvalue()


def write_shard(path: Path, samples: Sequence[tuple[str, Mapping[str, bytes]]]) -> None:
    """A WebDataset tar of (key, members by extension)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for key, members in samples:
            for extension, content in members.items():
                info = tarfile.TarInfo(f"{key}.{extension}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def good_samples(start: int, count: int) -> list[tuple[str, dict[str, bytes]]]:
    """Samples with nothing wrong."""
    return [
        (f"s{number:05d}", {"jpg": jpeg(number), "txt": f"picture number {number}".encode()})
        for number in range(start, start + count)
    ]


def build_experiment(directory: Path, **sections: Any) -> Experiment:
    """An experiment on `directory/data` with a tiny model; keyword sections replace the defaults."""
    model = directory / "model.json"
    model.write_text(json.dumps(MODEL))
    content: dict[str, Any] = {
        "name": "test",
        "output": str(directory / "out"),
        "data": {"path": str(directory / "data")},
        "rewrite": {"model": "demo-rewriter", "prompt_sets": ["crowd", "cleaned"]},
        "model": {"name": str(model)},
        "stream": {"rows_per_block": 16},
        "train": {
            "epochs": 2,
            "batch_size": 16,
            "workers": 2,
            "warmup_epochs": 0.5,
            "log_every_steps": 2,
            "checkpoint": {"every_steps": 4},
        },
    }
    for name, section in sections.items():
        if isinstance(section, dict):
            content[name] = {**content.get(name, {}), **section}
        else:
            content[name] = section
    return parse_experiment(content)


@pytest.fixture
def make_experiment(tmp_path: Path) -> Callable[..., Experiment]:
    """`build_experiment` in the test's directory."""
    return partial(build_experiment, tmp_path)


@pytest.fixture(scope="module")
def two_nodes(local_ray: Any) -> Iterator[str]:
    """The shared Ray with another node; its address."""
    node = local_ray.add_node(num_cpus=1)
    local_ray.wait_for_nodes()
    yield local_ray.address
    local_ray.remove_node(node)
