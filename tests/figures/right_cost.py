"""The cost of the checks: planning and reading the same data by this code and by the code before the checks."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.figures.figure import Figure
from tests.integration.procedures import real_data
from tests.structure import REPOSITORY

BEFORE = "82f45fb"
"""The last commit before the checks."""
PAIRS = 7
_PROGRAM = """
import json, sys, time
from pathlib import Path
code, *paths = sys.argv[1:]
import laclip_ray
assert Path(laclip_ray.__file__).is_relative_to(code), laclip_ray.__file__
from laclip_ray.config import DataConfig
from laclip_ray.data.images import ImageSpec, decode_and_crop
from laclip_ray.data.shards import list_shards, read_samples
spec = ImageSpec(224, "bicubic", (0.5,) * 3, (0.5,) * 3)
times = {}
for item in paths:
    name, content = item.split("=", 1)
    data = DataConfig(**json.loads(content))
    for warm in (True, False):
        started_s = time.perf_counter()
        shards = list_shards(data)
        planned_s = time.perf_counter()
        samples = 0
        for shard in shards:
            for sample in read_samples(shard, data, with_images=False):
                samples += 1
        read_s = time.perf_counter()
        if name == "tars":
            for shard in shards[:4]:
                for sample in read_samples(shard, data, with_images=True):
                    if sample.image is not None:
                        decode_and_crop(sample.image, spec, (0.5, 1.0), 0, 0, sample.id)
        decoded_s = time.perf_counter()
    times[name] = {"plan": planned_s - started_s, "read": read_s - planned_s, "decode": decoded_s - read_s}
print(json.dumps(times))
"""


def cost_of_checks(show: int) -> Iterator[Figure]:
    """The median over pairs of (time now / time before), for planning, reading and decoding."""
    data = real_data()
    if data is None:
        print("LACLIP_TEST_DATA is not set: the cost of the checks is left out")
        return
    with tempfile.TemporaryDirectory() as scratch:
        before = Path(scratch) / "before"
        subprocess.run(["git", "clone", "-q", str(REPOSITORY), str(before)], check=True)
        subprocess.run(["git", "-C", str(before), "checkout", "-q", BEFORE], check=True)
        inputs = write_inputs(data, Path(scratch))
        ratios: dict[str, list[float]] = {}
        for pair in range(PAIRS):
            # Which code runs first alternates: the second of two finds the caches warm.
            order = (before, REPOSITORY) if pair % 2 else (REPOSITORY, before)
            times = {code: _measure(code, inputs) for code in order}
            for name, phases in times[REPOSITORY].items():
                for phase, now_s in phases.items():
                    if phase != "decode" or name == "tars":
                        ratios.setdefault(f"{phase}, {name}", []).append(now_s / times[before][name][phase])
                        ratios.setdefault(phase, []).append(now_s / times[before][name][phase])
            both = [sum(sum(phases.values()) for phases in times[code].values()) for code in (REPOSITORY, before)]
            ratios.setdefault("planning, reading and decoding", []).append(both[0] / both[1])
    for name, values in ratios.items():
        bar = 1.05 if name == "planning, reading and decoding" else None
        yield Figure(show, f"time after / before: {name}", statistics.median(values), "", at_most=bar)


def write_inputs(data: Path, directory: Path) -> list[str]:
    """The data sets as arguments of the program: real tars, the real list as TSV, and a CSV and a Parquet of it."""
    lines = (data / "cc3m-validation.tsv").read_text(encoding="utf-8").splitlines()
    table = pa.table({"caption": [line.partition("\t")[0] for line in lines] * 4})
    pq.write_table(table, directory / "captions.parquet")
    rows = [f'"{caption}"' for caption in table.column("caption").to_pylist() if '"' not in caption]
    (directory / "captions.csv").write_text("caption\n" + "\n".join(rows) + "\n", encoding="utf-8")
    inputs = {
        "tars": {"path": str(data / "fluent-emoji")},
        "tsv": {"path": str(data / "cc3m-validation.tsv"), "columns": ["caption", "url"]},
        "csv": {"path": str(directory / "captions.csv")},
        "parquet": {"path": str(directory / "captions.parquet")},
    }
    return [f"{name}={json.dumps(content)}" for name, content in inputs.items()]


def _measure(code: Path, inputs: list[str]) -> dict[str, dict[str, float]]:
    environment = {**os.environ, "PYTHONPATH": str(code)}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(code), *inputs],
        cwd=code,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    times: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return times
