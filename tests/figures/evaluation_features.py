"""Features: killed drivers, images a second against a bare loop, and the memory of a large retrieval set."""

import io
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import yaml
from PIL import Image

from laclip_ray import storage
from laclip_ray.config import DataConfig, RetrievalConfig, RetrievalDataConfig
from laclip_ray.data.records import Shard
from laclip_ray.data.shards import list_shards, read_samples
from laclip_ray.evaluation.captioned import CaptionedSource
from laclip_ray.evaluation.captioned_measure import CaptionedMeasure
from laclip_ray.evaluation.features.encoding import text_units
from laclip_ray.evaluation.features.reading import FeatureReader
from laclip_ray.evaluation.features.rows import FEATURES_SCHEMA, TEXTS_SCHEMA
from laclip_ray.evaluation.features.store import FeatureStore
from laclip_ray.models.building import create_model
from laclip_ray.models.files import save_model
from laclip_ray.models.loading import load_model
from laclip_ray.models.specs import load_model_spec
from tests.figures.figure import Figure
from tests.integration.conftest import jpeg, write_shard
from tests.integration.procedures import REPOSITORY, child_environment, kill_an_encoder

KILLS = 10
POOLS = (2, 4)
SHARDS, IMAGES = 8, 300
_MODEL = {
    "embed_dim": 256,
    "vision_cfg": {"image_size": 128, "layers": 4, "width": 256, "head_width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 256, "heads": 4, "layers": 4},
}
"""About as many operations an image as decoding takes ten times over, as for a real model."""

LARGE_IMAGES, CAPTIONS_OF_AN_IMAGE, WIDTH = 50_000, 5, 512


def features(show: int) -> Iterator[Figure]:
    """All of them."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        config = _prepare(directory)
        yield from _kills(show, directory, config)
        yield from _pools(show, directory, config)
        yield from _speed(show, directory)
    done = subprocess.run(
        [sys.executable, "-m", "tests.figures.evaluation_features"],
        cwd=REPOSITORY, env=child_environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    pairs = f"{LARGE_IMAGES:,} images x {CAPTIONS_OF_AN_IMAGE} captions"
    yield Figure(show, f"memory of retrieval, {pairs}", found["gib"], "GiB", at_most=2)
    yield Figure(show, f"seconds of retrieval, {pairs}", found["seconds"], "s")


def _prepare(directory: Path) -> Path:
    """Write a model, a set and a config."""
    (directory / "model.json").write_text(json.dumps(_MODEL))
    (directory / "export").mkdir()
    spec = load_model_spec(str(directory / "model.json"))
    save_model(directory / "export", create_model(spec, seed=0), spec)
    for shard in range(SHARDS):
        samples = [
            (f"{shard}-{n}", {"jpg": jpeg(10_000 * shard + n, 150), "txt": b"picture %d of %d" % (n, shard)})
            for n in range(IMAGES)
        ]
        write_shard(directory / "data" / f"{shard}.tar", samples)
    data = {"path": str(directory / "data")}
    evaluate = {"checkpoint": str(directory / "export"), "retrieval": [{"name": "set", "data": data}]}
    config = directory / "config.yaml"
    config.write_text(yaml.safe_dump({"name": "f", "output": "unused", "data": data, "evaluate": evaluate}))
    return config


def _evaluate(config: Path, output: Path, *overrides: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "laclip_ray", "evaluate", str(config), f"output={output}", *overrides],
        cwd=REPOSITORY, env=child_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _kills(show: int, directory: Path, config: Path) -> Iterator[Figure]:
    """Kill the command at random times; what it had committed is never made again."""
    undisturbed, output = directory / "undisturbed", directory / "killed"
    assert _evaluate(config, undisturbed).wait() == 0
    chance = random.Random(0)
    made_again = killed = 0
    known: dict[Path, float] = {}
    for _ in range(KILLS):
        process = _evaluate(config, output)
        wanted = len(known) + chance.randint(0, 2)
        while process.poll() is None and len(_committed(output)) < wanted:
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.5))
        killed += process.poll() is None
        process.kill()
        process.wait()
        now = _committed(output)
        made_again += sum(now.get(path) != written for path, written in known.items())
        known = now
    assert _evaluate(config, output).wait() == 0
    results = [_results(each) for each in (undisturbed, output)]
    yield Figure(show, f"features made again after {KILLS} starts that were killed", made_again, "files", at_most=0)
    yield Figure(show, "of these starts, killed before their end", killed, "starts")
    yield Figure(show, "results that differ from an undisturbed run's", int(results[0] != results[1]), "", at_most=0)


def _pools(show: int, directory: Path, config: Path) -> Iterator[Figure]:
    """Evaluate with two and four actors, of which one is killed, after `_kills`."""
    expected = _results(directory / "undisturbed")
    for actors in POOLS:
        output = directory / f"{actors}-actors"
        process = _evaluate(
            config, output, f"evaluate.encoders={{min: {actors}, max: {actors}}}", f"ray.local_cpus={actors + 2}"
        )
        kill_an_encoder()
        assert process.wait() == 0
        name = f"results of {actors} actors, one of them killed, that differ from one process's"
        yield Figure(show, name, int(_results(output) != expected), "", at_most=0)


def _results(output: Path) -> Any:
    return storage.read_json(str(output / "evaluate" / "results.json"))["results"]


def _committed(output: Path) -> dict[Path, float]:
    """The files of features, and when each was written."""
    return {path: path.stat().st_mtime for path in (output / "features").rglob("*.parquet")}


def _speed(show: int, directory: Path) -> Iterator[Figure]:
    """Images a second of encoding against a loop that reads, transforms and encodes batch after batch."""
    data = DataConfig(path=str(directory / "data"))
    loaded = load_model(str(directory / "export"), None, torch.device("cpu"), "model")
    ratios = []
    for run in range(3):
        started_s = time.monotonic()
        batch: list[torch.Tensor] = []
        with torch.no_grad():
            for shard in list_shards(data):
                for sample in read_samples(shard, data, with_images=True):
                    batch.append(loaded.transform(Image.open(io.BytesIO(sample.image or b"")).convert("RGB")))
                    if len(batch) == 128:
                        loaded.model.encode_image(torch.stack(batch))
                        batch = []
        bare_s = time.monotonic() - started_s
        ratios.append(bare_s / _encoding_s(directory, run))
    name = f"images a second against a bare loop, {SHARDS * IMAGES:,} images, median of three"
    yield Figure(show, name, sorted(ratios)[1], "ratio", at_least=0.95)


def _encoding_s(directory: Path, run: int) -> float:
    """The seconds that encoding the same images takes, without the start of a process."""
    from laclip_ray.evaluation.features.encoder import Encoder
    from laclip_ray.evaluation.features.encoding import EncodingModel, encode_here, image_work

    data = RetrievalDataConfig(path=str(directory / "data"))
    device = torch.device("cpu")
    encoder = Encoder(load_model(str(directory / "export"), None, device, "model"), device, 128, "fp32")
    model = EncodingModel(encoder, FeatureStore(str(directory / f"speed{run}")))
    started_s = time.monotonic()
    sources = [CaptionedSource(shard, data) for shard in list_shards(data)]
    done = list(encode_here(image_work(sources, [model.store]), [model]))
    assert sum(each.images for each in done) == SHARDS * IMAGES
    return time.monotonic() - started_s


def _large_retrieval(directory: str) -> dict[str, Any]:
    """Measure a large set from features that are made up."""
    chance = np.random.Generator(np.random.Philox(0))
    store = FeatureStore(directory)
    source = CaptionedSource(Shard("large", "large.tar", "webdataset"), RetrievalDataConfig(path="unused"))
    captions, part = [], 1_000
    for first in range(0, LARGE_IMAGES, part):
        rows = []
        for n in range(first, first + part):
            lines = [f"caption {line} of picture {n}" for line in range(CAPTIONS_OF_AN_IMAGE)]
            captions += lines
            rows.append(
                {
                    "id": str(n), "problem": "", "label": "", "caption": "\n".join(lines), "row_problems": [],
                    "place": "", "picture": n.to_bytes(16, "big"), "embedding": _vector(chance), "backbone": b"",
                }
            )  # fmt: skip
        is_last = first + part == LARGE_IMAGES
        store.commit_part(source.key, first // part, is_last, pa.Table.from_pylist(rows, FEATURES_SCHEMA))
    units = text_units(captions)
    for unit in units:
        texts = [
            {"text": text, "tokens": text.encode(), "is_cut": False, "embedding": _vector(chance)}
            for text in unit.texts
        ]
        store.commit_texts(unit.unit, pa.Table.from_pylist(texts, TEXTS_SCHEMA))
    del captions
    config = RetrievalConfig(name="large", data=RetrievalDataConfig(path="unused"))
    measure = CaptionedMeasure(config, "data", [source], False, 0.0, 0)
    started_s = time.monotonic()
    reader = FeatureReader(store, {})
    (result,) = measure.measure(reader, reader.texts(units))
    assert result.metrics["captions"] == LARGE_IMAGES * CAPTIONS_OF_AN_IMAGE
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"gib": peak_kib / 2**20, "seconds": time.monotonic() - started_s}


def _vector(chance: np.random.Generator) -> bytes:
    return chance.standard_normal(WIDTH).astype(np.float32).tobytes()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(_large_retrieval(scratch)))
