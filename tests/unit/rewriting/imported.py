"""Makers of data, of line-aligned files beside it, and of experiments that read both."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from laclip_ray.config import Experiment, parse_experiment, with_overrides
from laclip_ray.data.records import Sample
from laclip_ray.data.shards import list_shards, read_samples
from laclip_ray.rewriting.storing.sets import SetSelection, committed_sets
from laclip_ray.rewriting.transfer.import_texts import ImportResult

OPEN_GATE = {"preset": "paper", "min_words": 0}
"""Only empty rewrites are refused."""

Rows = Sequence[tuple[str, str]]
"""(id, caption)"""

ROWS: Rows = [(f"train/{n}.jpg", f"caption, number {n}") for n in range(5)]
Accepted = dict[tuple[str, str], list[str]]


def jsonl_experiment(directory: Path, rows: Rows, rows_per_shard: int = 2, **gate: Any) -> Experiment:
    data = directory / "data.jsonl"
    data.parent.mkdir(parents=True, exist_ok=True)
    data.write_text("".join(json.dumps({"path": path, "caption": caption}) + "\n" for path, caption in rows))
    return experiment_of(
        directory, {"path": str(data), "image_column": "path", "max_rows_per_shard": rows_per_shard}, **gate
    )


def experiment_of(directory: Path, data: Mapping[str, Any], **gate: Any) -> Experiment:
    return parse_experiment(
        {
            "name": "test",
            "output": str(directory / "out"),
            "data": data,
            "rewrite": {"gate": {**OPEN_GATE, **gate}},
        }
    )


def write_csv(path: Path, rows: Sequence[Sequence[str]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return str(path)


def write_lines(path: Path, lines: Sequence[str]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return str(path)


def samples_of(experiment: Experiment) -> list[Sample]:
    return [
        sample
        for shard in list_shards(experiment.data)
        for sample in read_samples(shard, experiment.data, with_images=False)
    ]


def reading(experiment: Experiment, imported: ImportResult) -> Experiment:
    """The experiment as training reads the imported sets."""
    return with_overrides(experiment, {"text.rewrites": list(imported.locations.values())})


def accepted_by_shard(experiment: Experiment) -> dict[str, list[Accepted]]:
    accepted: dict[str, list[Accepted]] = {}
    for rewrite_set in committed_sets(SetSelection.of(experiment)).sets:
        for shard in list_shards(experiment.data):
            part = rewrite_set.accepted(shard.name)
            assert part is not None
            accepted.setdefault(rewrite_set.name, []).append(part)
    return accepted


def accepted_by_set(experiment: Experiment) -> dict[str, Accepted]:
    """By set, if each id is in one shard only."""
    return {
        name: {key: texts for part in parts for key, texts in part.items()}
        for name, parts in accepted_by_shard(experiment).items()
    }


def files_below(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())
