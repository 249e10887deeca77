"""How CLIP is trained: text, stream, model, checkpoints, optimiser."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Tag, field_validator, model_validator

from laclip_ray.config.fields import (
    ChoiceScore,
    LossKind,
    NonFiniteLoss,
    NonNegativeFloat,
    NonNegativeInt,
    PairScore,
    PositiveFloat,
    PositiveInt,
    Precision,
    Probability,
    RefusedShare,
    Section,
    StreamOrder,
    TextMode,
    WorkerRange,
    name_or_mapping,
    number_name_mapping_or_score,
    number_or_mapping,
)
from laclip_ray.config.markers import (
    FixedInSweep,
    InputPath,
    MayChangeOnResume,
    OutputPath,
    SharedBySweep,
    ends_with,
)


class RampConfig(Section):
    """A probability that changes linearly from epoch to epoch."""

    start: Probability
    """Value in the first epoch."""
    end: Probability
    """Value in epoch number `epochs` and later."""
    epochs: PositiveInt | None = None
    """Length of the ramp in epochs, the first and the last included. None: the whole run."""


class ScoreRampConfig(Section):
    """A probability that changes linearly with a score, such that poor captions are replaced and good ones stay."""

    by: PairScore
    """A score of the caption and the rewrite that the draw picks: `meaning`, `added`, `picture` or `log_probability`.
    Or a score of the caption: `caption_picture`, or `caption_words`, its number of words (split at spaces)."""
    low: float
    """Score at and below which p is `p_low`."""
    high: float
    """Score at and above which p is `p_high`. Between the two, p is linear in the score."""
    p_low: Probability
    """p at and below `low`."""
    p_high: Probability
    """p at and above `high`."""
    unscored: Probability | None = None
    """p where the drawn rewrite has no such score; such samples are counted. Required, except with `caption_words`,
    which every caption has."""

    @model_validator(mode="after")
    def _ordered(self) -> "ScoreRampConfig":
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) is not smaller than high ({self.high})")
        if self.unscored is None and self.by != "caption_words":
            raise ValueError(f"unscored is missing: give the p of samples without the score {self.by}")
        return self


TextProbability = Annotated[
    Annotated[Probability, Tag("<number>")]
    | Annotated[Literal["uniform"], Tag("<name>")]
    | Annotated[RampConfig, Tag("<mapping>")]
    | Annotated[ScoreRampConfig, Tag("<score>")],
    Discriminator(number_name_mapping_or_score),
]
"""The probability that an image shows a rewrite; see `TextConfig.p`."""


class ScoreChoiceConfig(Section):
    """A choice among a sample's accepted rewrites that prefers good scores."""

    by: ChoiceScore
    """A rewrite's weight is exp(score / `temperature`); with `added`, where lower is better, exp(-score /
    `temperature`). A rewrite without the score counts like the mean of the sample's others."""
    temperature: PositiveFloat
    """In units of the score: a rewrite that is better by this much is shown 2.7 times as often. A large value is
    `uniform`."""


class TextConfig(Section):
    """Choice of the text for each image."""

    mode: TextMode = "sample"
    """`sample`: one text, a rewrite with probability p. `both`: the caption and a rewrite, each with its own loss.
    `multi`: all texts (LaCLIP-MT); p chooses the text of the text-to-image loss."""
    p: TextProbability = 0.8
    """Probability of a rewrite (with `both`, every image shows one). A number, a ramp over epochs or over a score, or
    `uniform`: the paper's choice among 1 + M texts, M / (M + 1), with M rewrites of a sample in all sets together."""
    choice: Annotated[
        Annotated[Literal["uniform"], Tag("<name>")] | Annotated[ScoreChoiceConfig, Tag("<mapping>")],
        Discriminator(name_or_mapping),
    ] = "uniform"
    """Choice among the accepted rewrites of a sample: all are equally likely (`uniform`), or weighted by a score."""
    refused: RefusedShare = "others"
    """Where the share of a refused rewrite goes. `others`: to the sample's accepted rewrites. `caption` (the paper):
    with M rewrites, each accepted one has p / M, and the caption has the rest."""
    rewrites: Annotated[list[str] | None, InputPath()] = None
    """Directories or URLs of the rewrite sets to read. None: the sets of all `rewrite.prompt_sets`."""
    weights: dict[str, NonNegativeFloat] = {}
    """Relative weight of each rewrite set, by directory name. Unlisted sets have weight 1; 0 excludes a set. Empty: all
    accepted rewrites of a sample are equally likely."""
    max_rewrites: PositiveInt | None = None
    """Number of rewrites of a sample to use: the first ones. None: all."""

    @property
    def reads_rewrites(self) -> bool:
        """Whether any text can be a rewrite."""
        if self.mode != "sample" or isinstance(self.p, str):
            return True
        if isinstance(self.p, ScoreRampConfig):
            return max(self.p.p_low, self.p.p_high, self.p.unscored or 0.0) > 0
        return self.p.start > 0 or self.p.end > 0 if isinstance(self.p, RampConfig) else self.p > 0

    @property
    def scores(self) -> dict[str, str]:
        """The stored scores that decide the texts: by config key, the name of the score."""
        scores: dict[str, str] = {}
        if isinstance(self.p, ScoreRampConfig) and self.p.by != "caption_words":
            scores["text.p.by"] = self.p.by
        if isinstance(self.choice, ScoreChoiceConfig):
            scores["text.choice.by"] = self.choice.by
        return scores

    @model_validator(mode="after")
    def _p_has_an_effect(self) -> "TextConfig":
        if self.mode == "both" and isinstance(self.p, ScoreRampConfig):
            raise ValueError("p.by has no effect with mode=both, where every image shows a rewrite; remove p")
        return self


class StreamConfig(Section):
    """Input pipeline of training."""

    order: Annotated[StreamOrder, SharedBySweep()] = "fast"
    """`fast`: each epoch has the same samples, in any order. `exact`: the same global batches at the same world
    size."""
    shuffle_buffer_rows: Annotated[NonNegativeInt, SharedBySweep()] = 2_048
    """Rows in each worker's shuffle buffer (`fast` only). 0: samples are permuted only within shards."""
    rows_per_block: PositiveInt = 256
    """Decoded rows in a block of the stream."""
    prefetch_batches: PositiveInt = 2
    """Batches that each worker prepares ahead."""
    read_ahead_rows: PositiveInt | None = None
    """Upper bound on decoded rows waiting in the object store, on top of four blocks per reading task. None: Ray's own
    bound; with `rewrite.delivery: follow`, four global batches."""
    label_selector: dict[str, str] = {}
    """Read, decode and crop only on nodes with these Ray labels. A cluster that shrinks does not remove a node with
    tasks: keep them off the engines' nodes."""
    crop_scale: Annotated[tuple[PositiveFloat, PositiveFloat], SharedBySweep()] = (0.5, 1.0)
    """Range of RandomResizedCrop's areas, as shares of the image (the paper: 0.5 to 1)."""

    @field_validator("crop_scale", mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        # YAML has no tuples, and strict validation refuses a list.
        return tuple(value) if isinstance(value, list) else value

    @field_validator("crop_scale")
    @classmethod
    def _is_range(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not value[0] <= value[1] <= 1:
            raise ValueError("expected [smallest, largest], shares of the image's area, at most 1")
        return value


class ModelConfig(Section):
    """The CLIP model."""

    name: Annotated[str, InputPath(ends_with(".json"), travels=True)] = "ViT-B-32"
    """An open_clip model name, one of the paper's (`docs/models.md`), or the path of an open_clip config (`.json`)."""


class CheckpointConfig(Section):
    """When training saves its state."""

    every_steps: PositiveInt = 500
    """Steps between checkpoints. The last step always saves one."""
    every_minutes: PositiveFloat | None = None
    """Also save when the newest checkpoint is this old, in minutes (checked every `train.log_every_steps`)."""
    keep: PositiveInt = 2
    """Newest checkpoints to keep."""
    keep_lowest_loss: bool = False
    """Keep the newest checkpoint, and the `keep` checkpoints with the lowest mean loss since their predecessor."""
    keep_best: str | None = None
    """A metric of `evaluate.during`, `task/dataset/metric` as in `tune.metric`: `best.json` names the exported model
    with its highest value. None: no model is named."""


class TrainConfig(Section):
    """How CLIP is trained. The defaults are the paper's values for CC3M and CC12M."""

    output: Annotated[str | None, OutputPath(), MayChangeOnResume(), FixedInSweep()] = None
    """Directory or URL of checkpoints, metrics and the exported model. None: `train` under `output`."""
    epochs: Annotated[PositiveInt, FixedInSweep()] = 35
    """Passes over the data."""
    batch_size: PositiveInt = 8192
    """Samples in a global batch, over all workers."""
    workers: Annotated[
        Annotated[PositiveInt, Tag("<number>")] | Annotated[WorkerRange, Tag("<mapping>")],
        Discriminator(number_or_mapping),
        MayChangeOnResume(),
        FixedInSweep(),
    ] = 1
    """Ray Train workers. With `min` and `max`, their number follows the room in the cluster. If it does not divide
    `batch_size`, the global batch is the next smaller multiple."""
    gpus_per_worker: Annotated[NonNegativeFloat | None, MayChangeOnResume(), FixedInSweep()] = None
    """GPUs for each worker. None: one if the cluster has GPUs, else none."""
    cpus_per_worker: Annotated[NonNegativeFloat, MayChangeOnResume(), FixedInSweep()] = 1.0
    """Logical CPUs reserved for each worker. Ray Data's tasks need CPUs beside them."""
    accelerator_type: Annotated[str | None, MayChangeOnResume()] = None
    """Place workers only on nodes with this accelerator, by Ray's name."""
    label_selector: Annotated[dict[str, str], MayChangeOnResume()] = {}
    """Place workers only on nodes with these Ray labels. Not allowed with a range of workers."""
    learning_rate: Annotated[PositiveFloat, MayChangeOnResume(), SharedBySweep()] = 1e-3
    """Peak learning rate."""
    learning_rate_start: NonNegativeFloat = 1e-6
    """Learning rate at the start of the warm-up."""
    learning_rate_end: NonNegativeFloat = 1e-5
    """Learning rate at the end of the cosine."""
    warmup_epochs: NonNegativeFloat = 1.0
    """Length of the linear warm-up, in epochs."""
    weight_decay: NonNegativeFloat = 0.5
    """AdamW's weight decay. Biases, gains and the temperature have none."""
    beta1: Probability = 0.9
    """AdamW's decay rate of the first moment."""
    beta2: Probability = 0.98
    """AdamW's decay rate of the second moment."""
    epsilon: PositiveFloat = 1e-8
    """AdamW's term in the denominator."""
    gradient_clip_norm: Annotated[PositiveFloat | None, MayChangeOnResume(), SharedBySweep()] = None
    """Upper bound on the gradient's norm. None: no clipping."""
    loss: LossKind = "clip"
    """The softmax over the batch, or SigLIP's sigmoid for each pair."""
    local_loss: Annotated[bool, MayChangeOnResume()] = False
    """Each worker holds only its own rows of the similarity matrix (`clip`), which saves memory with many workers."""
    micro_batch_size: Annotated[PositiveInt | None, MayChangeOnResume()] = None
    """Samples in one pass through a worker's model. A larger share is processed in several passes. Negatives still come
    from the whole global batch, and the gradient is the same. It costs a second forward pass. None: one pass."""
    on_non_finite_loss: Annotated[NonFiniteLoss, MayChangeOnResume()] = "stop"
    """Reaction to an infinite or undefined loss. `skip` drops the batch and counts it, and waits for the device at each
    step."""
    compile: Annotated[bool | Literal["auto"], MayChangeOnResume()] = "auto"
    """`torch.compile` the model. `auto`: on a GPU if a C++ compiler is installed. The first step takes a minute
    longer."""
    gradient_checkpointing: Annotated[bool, MayChangeOnResume()] = False
    """Recompute activations in the backward pass instead of storing them."""
    channels_last: bool = False
    """Keep images in NHWC memory format, for convolutional image towers."""
    precision: Literal["auto", Precision] = "auto"
    """Number format of the forward pass. `auto`: bf16 autocast on a GPU, fp32 on a CPU."""
    price: Annotated[str | None, MayChangeOnResume(), FixedInSweep()] = None
    """Name in `rewrite.prices` for a worker's GPU. None: `rewrite.price`."""
    expected_images_per_s: Annotated[PositiveFloat | None, MayChangeOnResume()] = None
    """Images per second of all workers, for `laclip plan` until a run has measured it. None: unknown."""
    log_every_steps: Annotated[PositiveInt, MayChangeOnResume()] = 10
    """Steps between lines of metrics."""
    export_every_epochs: Annotated[PositiveInt | None, MayChangeOnResume(), FixedInSweep()] = None
    """Epochs between exports of the model, to `epochs/` below the output. None: export only at the end."""
    max_failures: Annotated[NonNegativeInt, MayChangeOnResume()] = 3
    """Worker failures that the run recovers from, each time from the newest checkpoint."""
    checkpoint: Annotated[CheckpointConfig, MayChangeOnResume()] = CheckpointConfig()
    """When training saves its state."""

    @model_validator(mode="after")
    def _divisible(self) -> "TrainConfig":
        if isinstance(self.workers, int) and self.batch_size % self.workers:
            raise ValueError(f"batch_size ({self.batch_size}) is not a multiple of workers ({self.workers})")
        if self.batch_size < self.worker_range.max:
            raise ValueError(
                f"batch_size ({self.batch_size}) is less than workers ({self.worker_range.max}); lower train.workers, "
                "or raise batch_size"
            )
        return self

    @model_validator(mode="after")
    def _placeable(self) -> "TrainConfig":
        # Ray 2.60 counts free resources on all nodes, and then waits forever for nodes with the labels.
        if self.label_selector and self.worker_range.min < self.worker_range.max:
            raise ValueError(
                "label_selector cannot restrict a range of workers to some nodes: Ray also counts the room on other "
                "nodes, and would wait forever for workers there. Use accelerator_type, or a fixed number of workers"
            )
        return self

    @property
    def worker_range(self) -> WorkerRange:
        """The smallest and the largest number of workers."""
        return WorkerRange(min=self.workers, max=self.workers) if isinstance(self.workers, int) else self.workers
