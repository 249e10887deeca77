"""One experiment as one strict, frozen model: what is read, rewritten, trained, evaluated and swept.

An experiment is a YAML file plus dotted overrides (`train.epochs=3`). `${NAME}` in a string is replaced from the
environment. Unknown keys and wrong types are refused with the key's full path. Values derived from others are
properties or functions, never written back.

Secrets do not belong here: object-store credentials come from the environment or the cloud's own chain.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from laclip_ray.errors import UserError

DEMO_REWRITER = "demo-rewriter"
"""The model name that stands for the small rewriter in this package."""

MAX_REWRITES_PER_SET = 32

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]


def _number_or_mapping(value: object) -> str:
    """Which of the alternatives of one key a value is meant to be, so that errors speak of that one."""
    return "<mapping>" if isinstance(value, Mapping | BaseModel) else "<number>"


def _number_name_or_mapping(value: object) -> str:
    return "<name>" if isinstance(value, str) else _number_or_mapping(value)


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, and nothing changes after validation."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class DataConfig(Section):
    """Where the samples are and how to read them."""

    path: str | list[str]
    """Files, directories or globs; local or any fsspec URL."""
    format: Literal["auto", "webdataset", "parquet", "csv", "tsv", "jsonl"] = "auto"
    """`auto` goes by the file extension."""
    image_column: str | None = None
    """Tables: image bytes (Parquet) or image path (manifests). None: a captions-only table."""
    caption_column: str = "caption"
    """Tables: the caption; WebDataset: the key of a json member, used where there is no txt member."""
    id_column: str | None = None
    """Where ids come from. None: WebDataset key, else image path, else `url` column, else a caption hash."""
    columns: list[str] | None = None
    """CSV and TSV files without a header: the names of their columns, in order."""
    image_root: str | None = None
    """Manifests: what relative image paths are relative to. None: the manifest's own directory."""
    max_rows_per_shard: Annotated[int, Field(ge=1, le=10_000)] = 10_000
    """Larger Parquet files and tables are cut into ranges of at most this many rows."""


class WorkerRange(Section):
    """How many processes of a kind may run."""

    min: PositiveInt = 1
    """Start when this many are up."""
    max: PositiveInt = 1
    """Grow to this many where the cluster has room."""

    @model_validator(mode="after")
    def _ordered(self) -> "WorkerRange":
        if self.max < self.min:
            raise ValueError(f"max ({self.max}) is smaller than min ({self.min})")
        return self


class SamplingConfig(Section):
    """How the language model's next token is drawn; the paper's values are the defaults."""

    temperature: NonNegativeFloat = 0.9
    """0 is greedy."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 0.95
    """Nucleus sampling."""
    max_tokens: PositiveInt = 77
    """The most tokens a rewrite may have."""


class EngineConfig(Section):
    """The pool of vLLM engines."""

    actors: WorkerRange = WorkerRange()
    """Engines, one an actor."""
    gpus_per_actor: NonNegativeFloat | None = None
    """None: one where the cluster has GPUs, else none."""
    cpus_per_actor: NonNegativeFloat = 1.0
    """Logical CPUs reserved for an engine."""
    cpu_threads: PositiveInt | None = None
    """Threads that an engine computes with on a CPU. None: as many as the node has cores."""
    tensor_parallel_size: PositiveInt = 1
    """GPUs of one node that an engine spreads the model over; `gpus_per_actor` follows it."""
    accelerator_type: str | None = None
    """Only on nodes with this accelerator, by Ray's name (`H100`, `A100-80G`, `L4`)."""
    label_selector: dict[str, str] = {}
    """Only on nodes with these Ray labels, such as `ray.io/market-type: spot`."""
    shards_in_flight: PositiveInt = 2
    """Shards an engine works on at a time, so that the slow tail of one does not idle it."""
    restart_timeout_s: PositiveFloat = 600.0
    """How long the start of an engine that was lost is tried again before the shards that it had are left to others.
    Rewriting ends when no engine is left."""
    cpu_kv_cache_gib: PositiveInt = 1
    """On a CPU: memory for the key-value cache."""
    args: dict[str, Any] = {}
    """Further arguments of vLLM's AsyncEngineArgs, such as `max_model_len` or `gpu_memory_utilization`."""

    @property
    def held_shards(self) -> int:
        """Shards that an engine has at a time: those that it works on, and one that waits."""
        return self.shards_in_flight + 1


class PictureGateConfig(Section):
    """A second gate: rewrites that are less like their picture than the caption are dropped."""

    model: str
    """An open_clip name, `hf-hub:ORGANISATION/NAME`, or a directory such as `laclip train` exports."""
    pretrained: str | None = None
    """The weights of a named model: open_clip's tag, or a checkpoint file."""
    margin: NonNegativeFloat = 0.05
    """How much smaller than the caption's a rewrite's cosine similarity with the picture may be, else it is
    `unlike_picture`."""
    batch_size: PositiveInt = 256
    """Pictures that are scored together."""
    actors: WorkerRange = WorkerRange()
    """Processes that score, one model each."""
    gpus_per_actor: NonNegativeFloat = 0.0
    """Share of a GPU that such a process is given."""


class GateConfig(Section):
    """What a rewrite must satisfy to be shown in training. Each check can be switched off.

    Every name in quotes is the reason that is recorded; `docs/gate.md` argues the defaults.
    """

    min_words: NonNegativeInt = 2
    """Fewer words is `too_short` (the paper drops rewrites of one word); 0 switches it off."""
    max_context_tokens: PositiveInt | None = 77
    """More tokens of CLIP's tokeniser is `too_long`; None switches it off."""
    drop_truncated: bool = True
    """Cut off by `sampling.max_tokens` is `truncated`."""
    drop_copies: bool = True
    """Equal to the caption, but for case and punctuation, is `copy_of_caption`."""
    drop_prompt_echo: bool = True
    """Holding the separator or the instruction is `prompt_echo`; a target of the prompt is `copy_of_example`."""
    drop_repeats: bool = True
    """Equal to another rewrite of the caption in the set is `copy_of_rewrite`."""
    drop_chat_phrases: bool = True
    """A refusal is `refusal`; an assistant's talk beside the rewrite ("Sure, here is") is `chat_phrase`."""
    drop_wrong_script: bool = True
    """A fifth of the letters in a script that the caption hardly has is `wrong_script`."""
    drop_lost_numbers: bool = True
    """A number of the caption that the rewrite lacks, as digits or as a word, is `numbers_lost`."""
    drop_changed_placeholders: bool = True
    """A placeholder such as `<PERSON>` that is lost or invented is `placeholders_changed`."""
    max_repeated_phrases: NonNegativeInt = 4
    """A word more often than this in a row, or two to eight words more often than half of it, is `looping`; 0 switches
    it off."""
    min_shared_words: NonNegativeInt = 1
    """Fewer content words in common with the caption is `unrelated`; 0 switches it off (one-word captions that are
    rewritten by synonyms, scripts without spaces)."""
    picture: PictureGateConfig | None = None
    """Scores what the other checks accept by the picture. None: pictures are not looked at."""


class BudgetConfig(Section):
    """What rewriting or a sweep may cost, over all starts into the same output; one that reaches it ends incomplete."""

    gpu_hours: PositiveFloat | None = None
    """GPU-hours of rewriting's engines, or of a sweep's training workers. None: no limit."""
    money: PositiveFloat | None = None
    """In the price list's currency; needs `rewrite.price`, for a sweep `train.price` or that. None: no limit."""


class RewriteConfig(Section):
    """How captions are rewritten."""

    output: str | None = None
    """Where the rewrite sets are kept, one directory a prompt set. None: `rewrites` under `output`."""
    model: str = DEMO_REWRITER
    """A Hugging Face name, a local directory, or `demo-rewriter` (in this package, knows the demo world only)."""
    revision: str | None = None
    """The model's revision on the hub."""
    prompt_sets: Annotated[list[str], Field(min_length=1)] = [
        "assistant_concise",
        "assistant_vivid",
        "crowd",
        "human",
    ]
    """Built-in names or YAML files; each makes a rewrite set of its own."""
    mode: Literal["completion", "chat"] = "completion"
    """`completion` for base models (the paper's), `chat` for instruct models."""
    heads: PositiveInt = 32
    """Prompt heads a set: few enough for the engine's prefix cache to hold every one."""
    rewrites_per_set: Annotated[int, Field(ge=1, le=MAX_REWRITES_PER_SET)] = 1
    """Rewrites for each caption and prompt set. Raising it draws only those that are missing."""
    redraws: NonNegativeInt = 1
    """How often a rewrite that the gate rejects is drawn again."""
    template: Literal["plain", "reference"] = "plain"
    """`plain`, or the layout of the prompts of the paper's code, to the byte."""
    caption_cache_entries: NonNegativeInt = 0
    """Captions (by prompt head) that each engine remembers the rewrites of, for alt-text that repeats across shards;
    0: none."""
    max_caption_characters: PositiveInt = 1_000
    """Longer captions are not rewritten: they are recorded as `caption_too_long` and train as they are."""
    sampling: SamplingConfig = SamplingConfig()
    delivery: Literal["ahead", "inline", "follow"] = "ahead"
    """How `laclip run` brings rewrites to training. `ahead`: all are made first. `inline`: they are made while training
    reads, which waits for those of a shard. `follow`: training never waits, and shows captions instead."""
    engine: EngineConfig = EngineConfig()
    gate: GateConfig = GateConfig()
    max_engine_deaths: PositiveInt = 2
    """Engines that may die of one caption, each time with nothing else in hand, before it is recorded as
    `engine_died`."""
    price: str | None = None
    """The name of what a GPU is rented as, in the price list."""
    prices: str | None = None
    """The price list. None: the one in the package."""
    budget: BudgetConfig = BudgetConfig()

    @model_validator(mode="after")
    def _draws_differ(self) -> "RewriteConfig":
        if self.sampling.temperature == 0 and self.rewrites_per_set > 1:
            raise ValueError("sampling.temperature is 0, so that all rewrites_per_set would be the same; set it to 1")
        return self


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

    mode: Literal["sample", "both", "multi"] = "sample"
    """`sample`: one text, a rewrite with probability p. `both`: the caption and a rewrite, each with a loss of its own.
    `multi`: all texts (LaCLIP-MT), of which p draws the one that finds its image."""
    p: Annotated[
        Annotated[Probability, Tag("<number>")]
        | Annotated[Literal["uniform"], Tag("<name>")]
        | Annotated[RampConfig, Tag("<mapping>")],
        Discriminator(_number_name_or_mapping),
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

    order: Literal["fast", "exact"] = "fast"
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
        Discriminator(_number_or_mapping),
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
    loss: Literal["clip", "siglip"] = "clip"
    """The softmax over the batch, or SigLIP's sigmoid for each pair."""
    local_loss: bool = False
    """Each worker holds only its own rows of the batch's similarities (`clip`): less memory in a large world."""
    micro_batch_size: PositiveInt | None = None
    """Samples that go through a worker's model at a time. More are taken one micro-batch after another, with the whole
    global batch as negatives, as if they had been one; it costs a second forward pass. None: a worker's whole share."""
    on_non_finite_loss: Literal["stop", "skip"] = "stop"
    """`skip` leaves such a batch out, counts it, and waits for the device at each step to see it."""
    compile: bool | Literal["auto"] = "auto"
    """`torch.compile` the model. `auto`: on a GPU, with a C++ compiler at hand; a first start takes a minute more."""
    gradient_checkpointing: bool = False
    """Make activations again in the backward pass instead of keeping them."""
    channels_last: bool = False
    """Images in NHWC memory: for convolutional image towers."""
    bucket_mib: Annotated[float, Field(ge=1.0)] = 25.0
    """Gradients that DDP sends together; a compiled model's first bucket has 1 MiB."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
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


class ZeroShotConfig(Section):
    """A labelled set in CLIP_benchmark's WebDataset layout."""

    name: str
    path: str
    """The directory that holds `classnames.txt`, the templates and the split directories."""
    split: str = "test"


class RetrievalConfig(Section):
    """Captioned shards to search in."""

    name: str
    data: DataConfig
    max_samples: PositiveInt | None = None
    """The first so many samples; None: all."""


class EvaluateConfig(Section):
    """What a trained model is measured on."""

    checkpoint: str | None = None
    """An open_clip name or directory. None: what training with this config exported."""
    output: str | None = None
    """Where `results.json` goes. None: `evaluate` under `output`."""
    batch_size: PositiveInt = 128
    zero_shot: list[ZeroShotConfig] = []
    retrieval: list[RetrievalConfig] = []


class SpaceConfig(Section):
    """The values of one key that a sweep looks through; one of these."""

    grid: Annotated[list[Any], Field(min_length=1)] | None = None
    """These values."""
    uniform: tuple[float, float] | None = None
    """Any number between two, all as likely (`random` and `optuna`)."""
    log_uniform: tuple[PositiveFloat, PositiveFloat] | None = None
    """Any number between two, all magnitudes as likely (`random` and `optuna`)."""

    @field_validator("uniform", "log_uniform", mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        # YAML has no tuples, and strict validation takes no list for one.
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _is_one(self) -> "SpaceConfig":
        if sum(each is not None for each in (self.grid, self.uniform, self.log_uniform)) != 1:
            raise ValueError("give one of grid, uniform and log_uniform")
        for given in (self.uniform, self.log_uniform):
            if given is not None and not given[0] < given[1]:
                raise ValueError(f"expected the smaller bound first, got {list(given)}")
        return self


class HalvingConfig(Section):
    """Asynchronous successive halving (ASHA; Li et al., 2020): poor points end early, with all their seeds."""

    first_epochs: PositiveInt = 1
    """No point ends before this many epochs."""
    reduction: Annotated[int, Field(ge=2)] = 3
    """Of this many points one goes on at each of first_epochs, times `reduction`, times its square ..."""


class TuneConfig(Section):
    """A sweep: which augmentation probability, and what goes with it, gives the best model."""

    output: str | None = None
    """Where the trials and the table go. None: `tune` under `output`."""
    p: Annotated[list[Probability | Literal["uniform"] | RampConfig], Field(min_length=1)] | None = [
        *(0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
    ]
    """A grid of `text.p`: numbers, `uniform`, ramps. None: p is swept by `space`, or not at all."""
    space: dict[str, SpaceConfig] = {}
    """Further keys, such as `train.learning_rate: {log_uniform: [1e-4, 1e-2]}`."""
    search: Literal["grid", "random", "optuna"] = "grid"
    """`grid`: every combination. `random`: `points` of them, drawn. `optuna`: `points` of them, each chosen by what the
    ones before gave (TPE)."""
    points: PositiveInt = 20
    """Of `random` and `optuna`."""
    seeds: Annotated[list[int], Field(min_length=1)] = [0]
    """Each point is trained once a seed. All points share a seed's first weights, order, crops and text draws."""
    metric: str | None = None
    """What is to be as large as possible, as a column of `sweep.csv` is named. None: the first zero-shot top-1, or the
    first recall."""
    evaluate_every_epochs: PositiveInt | None = None
    """Also evaluate after each so many epochs. None: only at the end, and where `halving` looks."""
    halving: HalvingConfig | None = None
    """End poor points early. None: every point is trained to the end."""
    max_concurrent_runs: PositiveInt | None = None
    """Training runs at a time. None: as many as the cluster has room for, at its largest where it grows."""
    max_failures: NonNegativeInt = 1
    """How often a point is begun again, from its checkpoints, after one of its runs failed."""
    budget: BudgetConfig = BudgetConfig()
    """What the sweep's training may cost, looked at after each evaluation. When it is reached no point starts, and none
    trains on."""


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


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2's floats: plain `1e-3` is a number, not a text."""


class _Dumper(yaml.SafeDumper):
    """Its counterpart: the text `1e-3` is quoted."""


for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
        list("-+.0123456789"),
    )


def _load_yaml(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader


def to_yaml(section: BaseModel) -> str:
    """The section as YAML that `load_experiment` reads back to an equal one."""
    return yaml.dump(section.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def load_experiment(path: str, overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment from a YAML file and apply dotted overrides.

    Args:
        path: the YAML file.
        overrides: `section.key=value` strings, applied in order; values are YAML (`tune.p=[0, 0.5]`).

    Raises:
        UserError: the file is missing or not YAML, or a key is unknown or has the wrong type; the message has the
            full path of every such key and what was expected.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f"{path}: there is no such config file")
    try:
        content = _load_yaml(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as YAML: {error}") from error
    return parse_experiment(content, overrides, where=path)


def parse_experiment(content: object, overrides: Sequence[str] = (), where: str = "config") -> Experiment:
    """Validate the content of a config file; see `load_experiment`."""
    if not isinstance(content, Mapping):
        raise UserError(f"{where}: expected a mapping of sections, got {type(content).__name__}")
    merged = _expand_environment(dict(content), where)
    for override in overrides:
        _apply_override(merged, override)
    return _validate(merged, where)


def with_overrides(experiment: Experiment, changes: Mapping[str, Any]) -> Experiment:
    """A copy of `experiment` with values at dotted keys replaced, validated again."""
    content = experiment.model_dump(mode="json")
    for key, value in changes.items():
        _set_dotted(content, key, value, origin=key)
    return _validate(content, "config")


def with_absolute_paths(experiment: Experiment, outputs: bool) -> Experiment:
    """A copy whose local paths are absolute: Ray's workers do not all run in this process's directory.

    Args:
        experiment: as loaded.
        outputs: whether places that are written to are made absolute too, or only what is read.
    """

    def absolute(path: str) -> str:
        return path if "://" in path else str(Path(path).absolute())

    content = experiment.model_dump(mode="json")
    evaluate = content["evaluate"]
    for data in (content["data"], *(retrieval["data"] for retrieval in evaluate["retrieval"])):
        paths = data["path"]
        data["path"] = absolute(paths) if isinstance(paths, str) else [absolute(path) for path in paths]
        data["image_root"] = data["image_root"] and absolute(data["image_root"])
    for zero_shot in evaluate["zero_shot"]:
        zero_shot["path"] = absolute(zero_shot["path"])
    if evaluate["checkpoint"] and not evaluate["checkpoint"].startswith("hf-hub:"):
        evaluate["checkpoint"] = absolute(evaluate["checkpoint"])
    if content["model"]["name"].endswith(".json"):
        content["model"]["name"] = absolute(content["model"]["name"])
    rewrite = content["rewrite"]
    if rewrite["model"].startswith("."):
        rewrite["model"] = absolute(rewrite["model"])
    rewrite["prompt_sets"] = [
        absolute(name) if name.endswith((".yaml", ".yml")) else name for name in rewrite["prompt_sets"]
    ]
    if (picture := rewrite["gate"]["picture"]) and picture["model"].startswith("."):
        picture["model"] = absolute(picture["model"])
    if content["text"]["rewrites"]:
        content["text"]["rewrites"] = [absolute(location) for location in content["text"]["rewrites"]]
    for key, space in content["tune"]["space"].items():
        if space["grid"] and key == "text.rewrites":
            space["grid"] = [value and [absolute(location) for location in value] for value in space["grid"]]
        if space["grid"] and key == "model.name":
            space["grid"] = [absolute(name) if str(name).endswith(".json") else name for name in space["grid"]]
    if outputs:
        for section in (content, rewrite, content["train"], evaluate, content["tune"]):
            section["output"] = section["output"] and absolute(section["output"])
    return _validate(content, "config")


def _validate(content: dict[str, Any], where: str) -> Experiment:
    try:
        return Experiment.model_validate(content)
    except ValidationError as error:
        found: dict[str, list[str]] = {}
        for issue in error.errors():
            found.setdefault(_dotted(issue["loc"]), []).append(_explain(dict(issue)))
        lines = [f"  {key}: {'; or '.join(explanations)}" for key, explanations in found.items()]
        raise UserError("\n".join([f"{where}: {len(lines)} invalid value(s)", *lines])) from error


def _dotted(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        if part in ("str", "list[str]") or str(part).startswith("<"):
            continue  # names of the alternatives of one key
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _explain(issue: dict[str, Any]) -> str:
    if issue["type"] == "extra_forbidden":
        return "unknown key"
    if issue["type"] == "missing":
        return "missing, a value is required"
    message = str(issue["msg"])
    message = message[:1].lower() + message[1:]
    return f"{message}, got {issue['input']!r}" if not isinstance(issue["input"], Mapping) else message


def _expand_environment(value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _expand_environment(item, where) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand_environment(item, where) for item in value]
    if isinstance(value, str):

        def replace(match: re.Match[str]) -> str:
            name = match.group(1)
            if name not in os.environ:
                raise UserError(f"{where}: ${{{name}}} is used, but the environment variable {name} is not set")
            return os.environ[name]

        return re.sub(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", replace, value)
    return value


def _apply_override(content: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise UserError(f"override {override!r}: expected key=value, such as train.epochs=3")
    try:
        value = _load_yaml(text)
    except yaml.YAMLError as error:
        raise UserError(f"override {override!r}: the value is not YAML: {error}") from error
    _set_dotted(content, key.strip(), value, origin=override)


def _set_dotted(content: dict[str, Any], key: str, value: Any, origin: str) -> None:
    *parents, last = key.split(".")
    section = content
    for parent in parents:
        child = section.setdefault(parent, {})
        if not isinstance(child, dict):
            raise UserError(f"override {origin!r}: {parent!r} is a value, not a section")
        section = child
    section[last] = value
