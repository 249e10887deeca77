"""A small price list and small datasets, for tests of prices and estimates."""

import json
from pathlib import Path
from typing import Any

import yaml

from laclip_ray.config import Experiment, parse_experiment

PRICES: dict[str, Any] = {
    "currency": "EUR",
    "reference_billion_parameters": 8.0,
    "prices": {
        "big": {"accelerator": "BIG", "per_gpu_hour": 4.0, "date": "2026-01-31", "source": "an offer"},
        "small": {"accelerator": "SMALL", "per_gpu_hour": 0.5, "date": "2026-01-31", "source": "an offer"},
    },
    "accelerators": {
        "BIG": {"memory_gb": 80, "prefill_tokens_per_s": 20_000, "decode_tokens_per_s": 10_000, "source": "a guess"},
        "SMALL": {"memory_gb": 12, "prefill_tokens_per_s": 2_000, "decode_tokens_per_s": 1_000, "source": "a guess"},
    },
}


def write_prices(tmp_path: Path, content: dict[str, Any] = PRICES) -> str:
    path = tmp_path / "prices.yaml"
    path.write_text(yaml.safe_dump(content).replace("'2026-01-31'", "2026-01-31"))
    return str(path)


def write_captions(directory: Path, shards: int, rows: int) -> None:
    directory.mkdir(exist_ok=True)
    for shard in range(shards):
        lines = [{"url": f"{shard}/{row}", "caption": f"a small red box number {shard} {row}"} for row in range(rows)]
        (directory / f"{shard:02d}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def experiment(tmp_path: Path, **rewrite: Any) -> Experiment:
    return parse_experiment(
        {
            "name": "test",
            "output": str(tmp_path / "out"),
            "data": {"path": str(tmp_path / "data")},
            "rewrite": {"model": "demo-rewriter", "prompt_sets": ["cleaned", "crowd"], **rewrite},
        }
    )
