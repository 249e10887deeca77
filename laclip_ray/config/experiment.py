"""One experiment: all sections."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, PrivateAttr, model_validator

from laclip_ray.config.data import DataConfig
from laclip_ray.config.evaluation import EvaluateConfig
from laclip_ray.config.fields import PositiveInt, Section
from laclip_ray.config.markers import CanBeSwept, DecidesRecipe, InputPath, MayChangeOnResume, OutputPath, SharedBySweep
from laclip_ray.config.rewriting import RewriteConfig
from laclip_ray.config.tracking import TrackConfig
from laclip_ray.config.training import ModelConfig, StreamConfig, TextConfig, TrainConfig
from laclip_ray.config.tuning import TuneConfig
from laclip_ray.redaction import redacted

KeyPath = tuple[str | int, ...]
"""The keys and list positions that lead to a value."""


class RayConfig(Section):
    """How to reach Ray."""

    local_cpus: PositiveInt | None = None
    """Logical CPUs of the Ray that this process starts. None: the reservation's CPUs, at least the machine's."""
    dashboard: bool | None = None
    """Serve the dashboard of the Ray that this process starts (http://127.0.0.1:8265). It takes two seconds more to
    start. None: for the verbs that train, because Ray Train watches its workers through it."""
    autoscaling: bool = False
    """The cluster adds nodes on demand, so a run may start before the cluster is large enough for it."""
    shared_paths: Annotated[list[str], InputPath(is_read_on_nodes=False)] = []
    """Local directories that every node sees (NFS, for example), or has a copy of. On several nodes, other local inputs
    and outputs are refused."""


_GATE_OF_SCORE = {"meaning": "meaning", "added": "meaning", "picture": "picture", "caption_picture": "picture"}
"""By stored score, the section of `rewrite.gate` that computes it. The engine gives `log_probability`."""


class Experiment(Section):
    """One experiment: all settings of all verbs."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    """Names the run in logs and reports."""
    seed: Annotated[int, DecidesRecipe()] = 0
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
    track: Annotated[TrackConfig, MayChangeOnResume()] = TrackConfig()
    """Experiment trackers."""
    ray: RayConfig = RayConfig()
    """The Ray cluster."""

    _templates: dict[KeyPath, str] = PrivateAttr(default_factory=dict)

    @property
    def templates(self) -> Mapping[KeyPath, str]:
        """The texts that held `${NAME}` when the experiment was loaded, by their place."""
        return self._templates

    def keep_templates(self, templates: Mapping[KeyPath, str]) -> None:
        """Remember texts that held `${NAME}`, for `as_written`. Only for the functions that make experiments."""
        self._templates = dict(templates)

    def as_written(self) -> dict[str, Any]:
        """The configuration as JSON, for files: with `${NAME}` as it was written, and `***` for other secrets."""
        content = self.model_dump(mode="json")
        for path, template in self._templates.items():
            parent: Any = content
            for key in path[:-1]:
                parent = parent[key]
            parent[path[-1]] = template
        return dict(redacted(content))

    @model_validator(mode="after")
    def _losses_fit(self) -> "Experiment":
        if self.text.mode == "multi" and self.train.loss == "siglip":
            raise ValueError(
                "text.mode: multi averages the image-to-text half of the loss, and train.loss: siglip has no halves; "
                "use text.mode: both, or train.loss: clip"
            )
        return self

    @model_validator(mode="after")
    def _holds_out(self) -> "Experiment":
        for number, dataset in enumerate(self.evaluate.retrieval):
            if dataset.held_out and not self.data.held_out:
                raise ValueError(
                    f"evaluate.retrieval[{number}].held_out: data.held_out is 0, so training leaves no sample out; set "
                    "it, for example to 0.02"
                )
        return self

    @model_validator(mode="after")
    def _scores_are_made(self) -> "Experiment":
        for key, score in self.text.scores.items() if self.text.reads_rewrites else ():
            gate = _GATE_OF_SCORE.get(score)
            if gate is not None and getattr(self.rewrite.gate, gate) is None:
                raise ValueError(
                    f"{key}: the score {score} comes from rewrite.gate.{gate}, which is off; set it, or choose another "
                    "score"
                )
        return self

    @model_validator(mode="after")
    def _evaluates_during(self) -> "Experiment":
        during, exports = self.evaluate.during, self.train.export_every_epochs
        if during is None and self.train.checkpoint.keep_best is not None:
            raise ValueError("train.checkpoint.keep_best: needs evaluations of epochs; set evaluate.during")
        if during is not None and exports is not None and during.every_epochs % exports:
            raise ValueError(
                f"evaluate.during.every_epochs: {during.every_epochs} is no multiple of train.export_every_epochs "
                f"({exports}), so some epochs would have no model"
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
    def features_output(self) -> str:
        """Directory or URL of the features of evaluation sets."""
        return self.evaluate.features or _join(self.output, "features")

    @property
    def tune_output(self) -> str:
        """Directory or URL that the sweep writes to."""
        return self.tune.output or _join(self.output, "tune")


def _join(base: str, name: str) -> str:
    return f"{base.rstrip('/')}/{name}"
