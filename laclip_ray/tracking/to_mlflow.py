"""MLflow: the server or store of `MLFLOW_TRACKING_URI`, else an SQLite file that `mlflow ui` reads.

It needs `mlflow-skinny` alone. Config values are parameters, which MLflow never changes: a resumed run adds new ones.
`config.json` and `lineage.json` are those of the newest start.
"""

import json
import logging
import os
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from laclip_ray.errors import UserError
from laclip_ray.tracking.tracker import Cell, Outcome, Picture, Table, TrackedRun
from laclip_ray.tracking.values import dotted

_ADDRESS = "MLFLOW_TRACKING_URI"
_ID_TAG = "laclip_ray.run"
_LONGEST_PARAMETER = 500
"""Characters; servers of older versions refuse more."""
_PARAMETERS_AT_ONCE = 100
_TABLES = "tables"
"""Directory of tables and their pictures, below the run's artifacts."""
_SHOWN_TAG = "mlflow.loggedArtifacts"
"""Names the tables that MLflow's pages show."""
_NOT_IN_NAMES = re.compile(r"[^\w\-. /]", re.ASCII)


class MlflowTracker:
    """One run of MLflow, found by a tag with its id."""

    _client: Any
    _id: str
    _step = 0

    def begin(self, run: TrackedRun) -> int:
        """Begin the run, or continue the one with its id."""
        self._client = _load().MlflowClient(os.environ.get(_ADDRESS) or _local_address(run.store))
        experiment = self._experiment(run)
        found = self._client.search_runs([experiment], f"tags.`{_ID_TAG}` = '{run.id}'", max_results=1)
        if found:
            self._id = found[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
            self._step = max((metric.step for metric in found[0].data.to_proto().metrics), default=0)
        else:
            tags = {_ID_TAG: run.id, "kind": run.kind, "group": run.group, **dict.fromkeys(run.tags, "true")}
            self._id = self._client.create_run(experiment, run_name=run.label, tags=tags).info.run_id
        self._set_parameters(run.config, found[0].data.params if found else {})
        self._client.log_text(self._id, json.dumps(run.config, indent=2, ensure_ascii=False), "config.json")
        self._client.log_text(self._id, json.dumps(run.lineage, indent=2, ensure_ascii=False), "lineage.json")
        return self._step

    def _experiment(self, run: TrackedRun) -> str:
        """The id of the project's experiment, which another process may make at the same time."""
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(run.project)
        if found is None:
            files = None
            if not os.environ.get(_ADDRESS) and run.store is not None:
                files = (Path(run.store).absolute() / "mlflow-artifacts").as_uri()
            try:
                return str(self._client.create_experiment(run.project, artifact_location=files))
            except MlflowException:
                found = self._client.get_experiment_by_name(run.project)
                if found is None:
                    raise
        return str(found.experiment_id)

    def _set_parameters(self, config: Mapping[str, Any], known: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        values = {key: f"{value}"[:_LONGEST_PARAMETER] for key, value in dotted(config).items() if key not in known}
        parameters = [Param(key, value) for key, value in values.items()]
        for start in range(0, len(parameters), _PARAMETERS_AT_ONCE):
            self._client.log_batch(self._id, params=parameters[start : start + _PARAMETERS_AT_ONCE])

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point of each metric, all in one request."""
        from mlflow.entities import Metric

        self._step = step
        time_ms = int(time.time() * 1000)
        metrics = [Metric(_name(name), value, time_ms, step) for name, value in values.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def table(self, table: Table) -> None:
        """Write the table as MLflow's own tables are written, and replace an earlier one."""
        name = f"{table.name}.json"
        with tempfile.TemporaryDirectory() as scratch:
            rows = [
                [_cell(cell, Path(scratch), f"{table.name}-{row}-{column}.jpg") for column, cell in enumerate(cells)]
                for row, cells in enumerate(table.rows)
            ]
            content = json.dumps({"columns": [*table.columns], "data": rows}, ensure_ascii=False)
            Path(scratch, name).write_text(content)
            self._client.log_artifacts(self._id, scratch, _TABLES)
        shown = json.loads(self._client.get_run(self._id).data.tags.get(_SHOWN_TAG, "[]"))
        entry = {"path": f"{_TABLES}/{name}", "type": "table"}
        if entry not in shown:
            self._client.set_tag(self._id, _SHOWN_TAG, json.dumps([*shown, entry]))

    def summary(self, values: Mapping[str, float]) -> None:
        """Set the values as metrics of the newest step."""
        self.scalars(self._step, {f"summary/{name}": value for name, value in values.items()})

    def flush(self) -> None:
        """Nothing is buffered."""

    def end(self, outcome: Outcome) -> None:
        """Set the run's status."""
        self._client.set_terminated(self._id, "FINISHED" if outcome is Outcome.FINISHED else "FAILED")


def check(store: str | None) -> None:
    """Refuse a local store without a directory.

    Raises:
        UserError: with the remedy.
    """
    if store is None and not os.environ.get(_ADDRESS):
        raise UserError(
            f"track.report_to: mlflow has no address, and output is a URL; set {_ADDRESS} to that of a server "
            "(https://...) or a store"
        )


def _local_address(store: str | None) -> str:
    assert store is not None, "checked before the run"
    directory = Path(store).absolute()
    directory.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{directory / 'mlflow.db'}"


def _load() -> Any:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)  # else a new store tells each step of its making
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # else a server that is away, each retry
    return mlflow


def _name(name: str) -> str:
    """The name with the characters that MLflow takes.

    >>> _name("zero-shot/my set (2)/top1")
    'zero-shot/my set _2_/top1'
    """
    return _NOT_IN_NAMES.sub("_", name)


def _cell(cell: Cell, directory: Path, name: str) -> Any:
    if not isinstance(cell, Picture):
        return cell
    (directory / name).write_bytes(cell.jpeg)
    path = f"{_TABLES}/{name}"
    return {"type": "image", "filepath": path, "compressed_filepath": path}
