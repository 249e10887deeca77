"""What trackers hold of runs, read back from the files that each one keeps, with none of our own code but a log reader.

W&B's records need its protocol, so a process that reads them sees `tests.tracker_packages`.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from laclip_ray.tracking.wandb_files import records

_MARKER = "train/epoch"
"""A curve that has a point at every logged step."""


@dataclass
class StoredRun:
    """One run in a tracker."""

    name: str
    kind: str = ""
    group: str = ""
    steps: list[int] = field(default_factory=list)
    """Of every row that holds metrics of steps, in the order of the store."""
    config: Mapping[str, Any] = field(default_factory=dict)
    lineage: Mapping[str, Any] = field(default_factory=dict)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Rows by table, newest version; each row by column."""
    pictures: int = 0
    """Pictures in those tables that are files."""
    summary: dict[str, float] = field(default_factory=dict)
    outcome: str = ""


def wandb_runs(directory: Path) -> dict[str, StoredRun]:
    """Offline runs by id: the files of all starts, in order, as `wandb sync` joins them."""
    found: dict[str, StoredRun] = {}
    for file in sorted(directory.glob("wandb/offline-run-*/*.wandb")):
        run = found.setdefault(file.stem.removeprefix("run-"), StoredRun(""))
        for kind, record in _wandb_records(file):
            if kind == "run":
                config = {update.key: json.loads(update.value_json) for update in record.config.update}
                run.name, run.kind, run.group = record.display_name, record.job_type, record.run_group
                run.lineage = config.pop("lineage", {})
                run.config = config
            elif kind == "history":
                run.steps.append(record.step.num)
            elif kind == "summary":
                _add_wandb_summary(run, record, file.parent / "files")
            elif kind == "artifact":  # its files wait outside the run's directory
                entries = [entry for entry in record.manifest.contents if entry.path.startswith("media/images/")]
                run.pictures += sum(Path(entry.local_path).exists() for entry in entries)
            elif kind == "exit":
                run.outcome = "failed" if record.exit_code else "finished"
    return found


def _wandb_records(file: Path) -> Iterator[tuple[str, Any]]:
    from wandb.proto.wandb_internal_pb2 import Record

    for content in records(file.read_bytes()):
        record = Record.FromString(content)
        kind = record.WhichOneof("record_type")
        yield kind, getattr(record, kind)


def _add_wandb_summary(run: StoredRun, record: Any, files: Path) -> None:
    for update in record.update:
        name, value = update.key or "/".join(update.nested_key), json.loads(update.value_json)
        if isinstance(value, dict) and value.get("_type") == "table-file":
            content = json.loads((files / value["path"]).read_text())
            rows = [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]
            run.tables[name.removeprefix("tables/")] = rows
        elif isinstance(value, int | float):
            run.summary[name] = value


def trackio_runs(directory: Path, project: str) -> dict[str, StoredRun]:
    """Runs of a local store by name, which is unique."""
    found: dict[str, StoredRun] = {}
    with closing(sqlite3.connect(directory / f"{project}.db")) as store:
        for name, content in store.execute("SELECT run_name, config FROM configs ORDER BY id"):
            config = json.loads(content)
            kind = name.rsplit("-", 2)[1]
            run = found.setdefault(name, StoredRun(name, kind, config.get("_Group") or ""))
            run.lineage = config.pop("lineage", {})
            run.config = config
        for name, step, content in store.execute("SELECT run_name, step, metrics FROM metrics ORDER BY id"):
            run, values = found[name], json.loads(content)
            for key, value in values.items():
                if key.startswith("tables/"):
                    run.tables[key.removeprefix("tables/")] = value["_value"]
                    run.pictures += sum(
                        (directory / "media" / cell["file_path"]).exists()
                        for row in value["_value"]
                        for cell in row.values()
                        if isinstance(cell, dict)
                    )
                elif key.startswith("summary/"):
                    run.summary[key.removeprefix("summary/")] = value
            if not any(key.startswith(("tables/", "summary/")) for key in values):
                run.steps.append(step)
    return found


def mlflow_runs(directory: Path) -> dict[str, StoredRun]:
    """Runs of a local store by the id that we gave them."""
    found: dict[str, StoredRun] = {}
    with closing(sqlite3.connect(directory / "mlflow.db")) as store:
        for uuid, name, status, artifacts in store.execute("SELECT run_uuid, name, status, artifact_uri FROM runs"):
            tags = dict(store.execute("SELECT key, value FROM tags WHERE run_uuid = ?", (uuid,)))
            run = StoredRun(name, tags["kind"], tags["group"], outcome=status.lower())
            metrics = [*store.execute("SELECT key, step, value FROM metrics WHERE run_uuid = ?", (uuid,))]
            curves: dict[str, list[int]] = {}
            for key, step, value in metrics:
                if key.startswith("summary/"):
                    run.summary[key.removeprefix("summary/")] = value
                else:
                    curves.setdefault(key, []).append(step)
            run.steps = sorted(curves.get(_MARKER, []))
            files = Path(artifacts.removeprefix("file://"))
            run.config, run.lineage = (
                json.loads((files / f"{each}.json").read_text()) for each in ("config", "lineage")
            )
            for path in sorted((files / "tables").glob("*.json")):
                content = json.loads(path.read_text())
                run.tables[path.stem] = [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]
            run.pictures = sum(
                (files / cell["filepath"]).exists()
                for rows in run.tables.values()
                for row in rows
                for cell in row.values()
                if isinstance(cell, dict)
            )
            run.summary |= {
                "parameters": store.execute("SELECT count(*) FROM params WHERE run_uuid = ?", (uuid,)).fetchone()[0]
            }
            found[tags["laclip_ray.run"]] = run
    return found


def tensorboard_run(output: Path, curve: str = _MARKER) -> StoredRun:
    """The run in `output/tensorboard`."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events: Any = EventAccumulator(str(output / "tensorboard"), {"scalars": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    run = StoredRun("")
    run.steps = [event.step for event in events.Scalars(curve)] if curve in tags["scalars"] else []
    texts = {tag: events.Tensors(tag)[-1].tensor_proto.string_val[0].decode() for tag in tags["tensors"]}
    run.config, run.lineage = (_rows_by_key(texts.get(name, "")) for name in ("config", "lineage"))
    run.outcome = texts.get("outcome", "")
    for tag, text in texts.items():
        if tag.startswith("tables/"):
            run.tables[tag.removeprefix("tables/")] = _markdown_rows(text)
    return run


def _markdown_rows(text: str) -> list[dict[str, Any]]:
    lines = [line[2:-2].replace("\\_", "_").split(" | ") for line in text.split("\n")]
    return [dict(zip(lines[0], line, strict=False)) for line in lines[2:]]


def _rows_by_key(text: str) -> dict[str, str]:
    return {row["key"]: row.get("value", "") for row in _markdown_rows(text)} if text else {}
