"""How CLIP is trained: text, stream, model, checkpoints, optimiser."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Tag, field_validator, model_validator

from laclip_ray.config.fields import (
    LossKind,
    NonFiniteLoss,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Precision,
    Probability,
    Section,
    StreamOrder,
    TextMode,
    WorkerRange,
    number_name_or_mapping,
    number_or_mapping,
)


class RampConfig(Section):
    """A probability that changes from epoch to epoch, in equal steps."""

    start: Probability
    """In the first epoch."""
    end: Probability
    """From epoch `epochs` on."""
    epochs: PositiveInt | None = None
    """Epochs that the ramp takes, the first and the last included. None: all."""


class TextConfig(Section):
    """Which text an image is shown with."""

    mode: TextMode = "sample"
    """`sample`: one text, a rewrite with probability p. `both`: the caption and a rewrite, each with a loss of its own.
    `multi`: all texts (LaCLIP-MT), of which p draws the one that finds its image."""
    p: Annotated[
        Annotated[Probability, Tag("<number>")]
        | Annotated[Literal["uniform"], Tag("<name>")]
        | Annotated[RampConfig, Tag("<mapping>")],
        Discriminator(number_name_or_mapping),
    ] = 0.8
    """The probability of a rewrite (in `both`, every image shows one). `uniform` is the paper's choice among 1 + M
    texts: M / (M + 1), with M rewrites a sample in all sets together."""
    rewrites: list[str] | None = None
    """Directories of the rewrite sets to read. None: all that `rewrite.prompt_sets` names."""
    weights: dict[str, NonNegativeFloat] = {}
    """How often a rewrite is of which set (by its directory's name), where one is shown: 0 leaves a set out, and sets
    that are not named have 1. Empty: every accepted rewrite of a sample is as likely as any other."""
    max_rewrites: PositiveInt | None = None
    """Only the first so many rewrites of each sample. None: all."""

    @property
    def reads_rewrites(self) -> bool:
        """Whether any text can be a rewrite."""
        if self.mode != "sample" or isinstance(self.p, str):
            return True
        return self.p.start > 0 or self.p.end > 0 if isinstance(self.p, RampConfig) else self.p > 0


class StreamConfig(Section):
    """How samples reach the trainer."""

    order: StreamOrder = "fast"
    """`fast` promises each epoch's multiset; `exact` gives the same batches at the same world size."""
    shuffle_buffer_rows: NonNegativeInt = 2_048
    """Rows each worker shuffles among (`fast` only); 0 leaves only the permutation within shards."""
    rows_per_block: PositiveInt = 256
    """Decoded rows that travel together."""
    prefetch_batches: PositiveInt = 2
    """Batches each worker prepares ahead."""
    read_ahead_rows: PositiveInt | None = None
    """About how many decoded rows may wait in the object store for the workers, beside four blocks for each CPU of the
    cluster, which tasks have in hand; None: as many as Ray lets be there, with `follow` four global batches."""
    crop_scale: tuple[PositiveFloat, PositiveFloat] = (0.5, 1.0)
    """RandomResizedCrop's range of areas (the paper: 0.5 to 1)."""

    @field_validator("crop_scale", mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        # YAML has no tuples, and strict validation takes no list for one.
        return tuple(value) if isinstance(value, list) else value

    @field_validator("crop_scale")
    @classmethod
    def _is_range(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not value[0] <= value[1] <= 1:
            raise ValueError("expected [smallest, largest], shares of the image's area, at most 1")
        return value


class ModelConfig(Section):
    """The CLIP model."""

    name: str = "ViT-B-32"
    """An open_clip model name, or the path of an open_clip model config (JSON)."""


class CheckpointConfig(Section):
    """When the state of training is saved."""

    every_steps: PositiveInt = 500
    """Steps between checkpoints; the last step always makes one."""
    every_minutes: PositiveFloat | None = None
    """A checkpoint also where the last one is this old (looked at every `train.log_every_steps`)."""
    keep: PositiveInt = 2
    """Newest checkpoints kept."""
    keep_lowest_loss: bool = False
    """Keep the newest checkpoint, and the `keep` with the lowest mean loss since the one before them."""


class TrainConfig(Section):
    """How CLIP is trained; defaults are the paper's for CC3M and CC12M."""

    output: str | None = None
    """Where the run's checkpoints, metrics and export go. None: `train` under `output`."""
    epochs: PositiveInt = 35
    batch_size: PositiveInt = 8192
    """Samples a step over all workers."""
    workers: Annotated[
        Annotated[PositiveInt, Tag("<number>")] | Annotated[WorkerRange, Tag("<mapping>")],
        Discriminator(number_or_mapping),
    ] = 1
    """Ray Train workers. With `min` and `max`: as many as the cluster has room for; where their number does not divide
    `batch_size`, the batch is the next smaller multiple."""
    gpus_per_worker: NonNegativeFloat | None = None
    """None: one where the cluster has GPUs, else none."""
    cpus_per_worker: NonNegativeFloat = 1.0
    """Logical CPUs reserved for a worker; Ray Data needs others for itself."""
    accelerator_type: str | None = None
    """Workers only on nodes with this accelerator, by Ray's name."""
    label_selector: dict[str, str] = {}
    """Workers only on nodes with these Ray labels; not with a range of workers."""
    learning_rate: PositiveFloat = 1e-3
    learning_rate_start: NonNegativeFloat = 1e-6
    """Warm-up begins here."""
    learning_rate_end: NonNegativeFloat = 1e-5
    """The cosine ends here."""
    warmup_epochs: NonNegativeFloat = 1.0
    weight_decay: NonNegativeFloat = 0.5
    beta1: Probability = 0.9
    beta2: Probability = 0.98
    epsilon: PositiveFloat = 1e-8
    gradient_clip_norm: PositiveFloat | None = None
    loss: LossKind = "clip"
    """The softmax over the batch, or SigLIP's sigmoid for each pair."""
    local_loss: bool = False
    """Each worker holds only its own rows of the batch's similarities (`clip`): less memory in a large world."""
    micro_batch_size: PositiveInt | None = None
    """Samples that go through a worker's model at a time. More are taken one micro-batch after another, with the whole
    global batch as negatives, as if they had been one; it costs a second forward pass. None: a worker's whole share."""
    on_non_finite_loss: NonFiniteLoss = "stop"
    """`skip` leaves such a batch out, counts it, and waits for the device at each step to see it."""
    compile: bool | Literal["auto"] = "auto"
    """`torch.compile` the model. `auto`: on a GPU, with a C++ compiler at hand; a first start takes a minute more."""
    gradient_checkpointing: bool = False
    """Make activations again in the backward pass instead of keeping them."""
    channels_last: bool = False
    """Images in NHWC memory: for convolutional image towers."""
    precision: Literal["auto", Precision] = "auto"
    """`auto` is bf16 autocast on a GPU and fp32 on a CPU."""
    price: str | None = None
    """The name, in `rewrite.prices`, of what a worker's GPU is rented as. None: `rewrite.price`."""
    expected_images_per_s: PositiveFloat | None = None
    """Of all workers, for `laclip plan` where no run has measured it."""
    log_every_steps: PositiveInt = 10
    export_every_epochs: PositiveInt | None = None
    """Also export the model after each so many epochs, to `epochs/` below the output. None: only at the end."""
    max_failures: NonNegativeInt = 3
    """Worker failures that are repaired from the newest checkpoint before the run gives up."""
    checkpoint: CheckpointConfig = CheckpointConfig()

    @model_validator(mode="after")
    def _divisible(self) -> "TrainConfig":
        if isinstance(self.workers, int) and self.batch_size % self.workers:
            raise ValueError(f"batch_size ({self.batch_size}) is not a multiple of workers ({self.workers})")
        if self.batch_size < self.worker_range.max:
            raise ValueError(f"batch_size ({self.batch_size}) is less than workers ({self.worker_range.max})")
        return self

    @model_validator(mode="after")
    def _placeable(self) -> "TrainConfig":
        # Ray 2.60 counts the room for workers on all nodes, and then waits without end for nodes with the labels.
        if self.label_selector and self.worker_range.min < self.worker_range.max:
            raise ValueError(
                "label_selector cannot keep a range of workers to some nodes: Ray would wait for workers that other "
                "nodes seem to have room for. Use accelerator_type, or a fixed number of workers"
            )
        return self

    @property
    def worker_range(self) -> WorkerRange:
        """The fewest and the most workers."""
        return WorkerRange(min=self.workers, max=self.workers) if isinstance(self.workers, int) else self.workers
