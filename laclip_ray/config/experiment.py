"""One experiment: all sections."""

from typing import Annotated

from pydantic import Field, model_validator

from laclip_ray.config.data import DataConfig
from laclip_ray.config.evaluation import EvaluateConfig
from laclip_ray.config.fields import PositiveInt, Section
from laclip_ray.config.markers import CanBeSwept, InputPath, OutputPath, SharedBySweep
from laclip_ray.config.rewriting import RewriteConfig
from laclip_ray.config.training import ModelConfig, StreamConfig, TextConfig, TrainConfig
from laclip_ray.config.tuning import TuneConfig


class RayConfig(Section):
    """How to reach Ray."""

    local_cpus: PositiveInt | None = None
    """Logical CPUs of the Ray that this process starts. None: the reservation's CPUs, at least the machine's."""
    autoscaling: bool = False
    """The cluster adds nodes on demand, so a run may start before the cluster is large enough for it."""
    shared_paths: Annotated[list[str], InputPath()] = []
    """Local directories that every node sees (NFS, for example). On several nodes, other local outputs are refused."""


class Experiment(Section):
    """One experiment: all settings of all verbs."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    """Names the run in logs and reports."""
    seed: int = 0
    """Every random draw (heads, text, crops, order, weights) is a function of it."""
    output: Annotated[str, OutputPath()]
    """Directory or URL for everything that the experiment writes."""
    data: Annotated[DataConfig, SharedBySweep()]
    """Training samples."""
    rewrite: RewriteConfig = RewriteConfig()
    """Rewriting of captions."""
    text: Annotated[TextConfig, CanBeSwept(), SharedBySweep()] = TextConfig()
    """Choice of the text for each image."""
    stream: Annotated[StreamConfig, CanBeSwept()] = StreamConfig()
    """Input pipeline of training."""
    model: Annotated[ModelConfig, CanBeSwept(), SharedBySweep()] = ModelConfig()
    """The CLIP model."""
    train: Annotated[TrainConfig, CanBeSwept(), SharedBySweep()] = TrainConfig()
    """Training."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """Evaluation."""
    tune: TuneConfig = TuneConfig()
    """The sweep."""
    ray: RayConfig = RayConfig()
    """The Ray cluster."""

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
        """Directory or URL of the rewrite sets."""
        return self.rewrite.output or _join(self.output, "rewrites")

    @property
    def train_output(self) -> str:
        """Directory or URL that training writes to."""
        return self.train.output or _join(self.output, "train")

    @property
    def evaluate_output(self) -> str:
        """Directory or URL that evaluation writes to."""
        return self.evaluate.output or _join(self.output, "evaluate")

    @property
    def tune_output(self) -> str:
        """Directory or URL that the sweep writes to."""
        return self.tune.output or _join(self.output, "tune")


def _join(base: str, name: str) -> str:
    return f"{base.rstrip('/')}/{name}"
