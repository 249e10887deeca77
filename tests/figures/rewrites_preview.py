"""`laclip rewrites preview` on three datasets: seconds from the engine's start to the finished page."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from laclip_ray.config import DataConfig
from laclip_ray.data.shards import list_shards, read_samples
from tests.figures.figure import Figure, exit_code
from tests.integration.procedures import REPOSITORY, child_environment, real_data
from tests.real_models import real_model

MOST_S = 60.0
CAPTIONS = 50
_ROWS = 3_000
"""Of the Parquet files."""
_TIMES = re.compile(r"engine start ([\d.]+) s, the rest ([\d.]+) s")


def preview(show: int) -> Iterator[Figure]:
    """Preview 50 captions by four prompt sets with SmolLM2-135M, and the meaning gate with MiniLM."""
    data = real_data()
    if data is None:
        print("LACLIP_TEST_DATA is not set: the previews are left out")
        return
    with tempfile.TemporaryDirectory() as scratch:
        parquet = Path(scratch) / "hugging-face"
        _write_parquet(data, parquet)
        datasets: dict[str, dict[str, Any]] = {
            "cc3m-validation": {"path": str(data / "cc3m-validation.tsv"), "columns": ["caption", "url"]},
            "fluent-emoji": {"path": str(data / "fluent-emoji")},
            "Hugging Face Parquet": {"path": str(parquet), "image_column": "image"},
        }
        for name, section in datasets.items():
            yield from _preview(show, name, section, Path(scratch))


def _preview(show: int, name: str, data: dict[str, Any], scratch: Path) -> Iterator[Figure]:
    config, page = scratch / "config.yaml", scratch / "page.html"
    gate = {"meaning": {"model": str(real_model("all-minilm-l6-v2"))}}
    rewrite = {"model": str(real_model("smollm2-135m-instruct")), "mode": "chat", "gate": gate}
    content = {"name": "preview", "output": str(scratch / "output"), "data": data, "rewrite": rewrite}
    config.write_text(yaml.safe_dump(content))
    arguments = [str(config), "--captions", str(CAPTIONS), "--page", str(page)]
    done = subprocess.run(
        [sys.executable, "-m", "laclip_ray", "rewrites", "preview", *arguments],
        cwd=REPOSITORY, env=child_environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    yield exit_code(show, f"{name}: exit code of the preview", done.returncode)
    times = _TIMES.search(done.stdout)
    if times is None:
        print(done.stderr)
        return
    start_s, rest_s = map(float, times.groups())
    yield Figure(show, f"{name}: {CAPTIONS} captions, four sets, after the engine's start", rest_s, "s", at_most=MOST_S)
    yield Figure(show, f"{name}: start of engine and encoder", start_s, "s")
    shown = page.read_text().count("<article")
    yield Figure(show, f"{name}: captions on the page", shown, "captions", at_least=CAPTIONS, at_most=CAPTIONS)


def _write_parquet(data: Path, target: Path) -> None:
    """Write a dataset as `datasets` does: the picture is a struct of bytes and path, beside its caption."""
    emoji = DataConfig(path=str(data / "fluent-emoji"))
    pictures = [
        {"bytes": sample.image, "path": f"{sample.id}.jpg"}
        for shard in list_shards(emoji)
        for sample in read_samples(shard, emoji, with_images=True)
    ]
    captions = [line.split("\t")[0] for line in (data / "cc3m-validation.tsv").read_text().split("\n")]
    count = min(_ROWS, len(pictures))
    table = pa.table(
        {
            "image": pa.array(pictures[:count], pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            "caption": captions[-count - 1 : -1],
        }
    )
    target.mkdir()
    for part in range(2):
        rows = table.slice(part * (count // 2), count // 2)
        pq.write_table(rows, target / f"train-{part:05d}-of-00002.parquet")
