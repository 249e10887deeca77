"""One experiment: all sections."""

from typing import Annotated

from pydantic import Field, model_validator

from laclip_ray.config.data import DataConfig
from laclip_ray.config.evaluation import EvaluateConfig
from laclip_ray.config.fields import PositiveInt, Section
from laclip_ray.config.rewriting import RewriteConfig
from laclip_ray.config.training import ModelConfig, StreamConfig, TextConfig, TrainConfig
from laclip_ray.config.tuning import TuneConfig


class RayConfig(Section):
    """How to reach Ray."""

    local_cpus: PositiveInt | None = None
    """Logical CPUs of a Ray started by this process. None: what the plan needs, at least the machine's."""
    autoscaling: bool = False
    """The cluster grows as needed: a plan is not compared with what is there now."""
    shared_paths: list[str] = []
    """Local directories that every node sees (NFS, for example); others are refused on several nodes."""


class Experiment(Section):
    """Everything that one experiment is."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    """Names the run in logs and reports."""
    seed: int = 0
    """Every draw (heads, text, crops, order, weights) is a function of it."""
    output: str
    """The directory or URL for all that the experiment writes."""
    data: DataConfig
    rewrite: RewriteConfig = RewriteConfig()
    text: TextConfig = TextConfig()
    stream: StreamConfig = StreamConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    tune: TuneConfig = TuneConfig()
    ray: RayConfig = RayConfig()

    @model_validator(mode="after")
    def _losses_fit(self) -> "Experiment":
        if self.text.mode == "multi" and self.train.loss == "siglip":
            raise ValueError(
                "text.mode: multi averages the image-to-text half of the loss, and train.loss: siglip has no halves; "
                "use text.mode: both, or train.loss: clip"
            )
        return self

    @property
    def rewrite_output(self) -> str:
        """Where the rewrite sets are kept."""
        return self.rewrite.output or _join(self.output, "rewrites")

    @property
    def train_output(self) -> str:
        """Where training writes."""
        return self.train.output or _join(self.output, "train")

    @property
    def evaluate_output(self) -> str:
        """Where evaluation writes."""
        return self.evaluate.output or _join(self.output, "evaluate")

    @property
    def tune_output(self) -> str:
        """Where the sweep writes."""
        return self.tune.output or _join(self.output, "tune")


def _join(base: str, name: str) -> str:
    return f"{base.rstrip('/')}/{name}"
