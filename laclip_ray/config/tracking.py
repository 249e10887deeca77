"""Experiment trackers: where runs report to, and what they tell."""

from typing import Annotated, Any

from pydantic import Field, field_validator

from laclip_ray.config.fields import NonNegativeInt, Section, TrackerName


class TrackConfig(Section):
    """Experiment trackers. Credentials and addresses of servers come from the environment, never from here."""

    report_to: list[TrackerName] = ["tensorboard"]
    """Trackers that get the metrics, config, lineage and tables of every run. `wandb`, `trackio` and `mlflow` need a
    package each. Empty: none."""
    project: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")] = "laclip-ray"
    """The project (W&B, Trackio) or experiment (MLflow) that the runs belong to."""
    name: str | None = None
    """The name of the runs in trackers; their kind (`train`, for example) follows it. None: the experiment's `name`."""
    group: str | None = None
    """Trackers show runs of one group together. None: the experiment's `name`."""
    tags: list[str] = []
    """Labels of the runs in trackers."""
    sample_rows: NonNegativeInt = 100
    """Rows in a table of captions and rewrites. 0: trackers get no caption."""
    pictures: bool = True
    """Such tables show small copies of the pictures, except in TensorBoard. Pictures on other hosts are left out."""

    @field_validator("report_to", mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("report_to")
    @classmethod
    def _is_without_repeats(cls, value: list[TrackerName]) -> list[TrackerName]:
        return list(dict.fromkeys(value))
