"""Types of config fields, each enumeration once, and the sections that several parts share."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from laclip_ray.redaction import register_secrets

Probability = Annotated[float, Field(ge=0.0, le=1.0)]

PositiveInt = Annotated[int, Field(gt=0)]

NonNegativeInt = Annotated[int, Field(ge=0)]

PositiveFloat = Annotated[float, Field(gt=0)]

NonNegativeFloat = Annotated[float, Field(ge=0)]

Format = Literal["webdataset", "parquet", "csv", "tsv", "jsonl"]
"""File format of a dataset's shards."""

CaptionChoice = Literal["first", "all"]
"""Captions used of a list; see `DataConfig.captions`."""

Quoting = Literal["auto", "standard", "none"]
"""Meaning of quotes in text tables; see `DataConfig.quoting`."""

EqualCaptions = Literal["auto", "match", "differ"]
"""Meaning of a caption that several images have; see `RetrievalConfig.equal_captions`."""

PromptMode = Literal["completion", "chat"]
"""Form of a prompt: text to continue (base models), or messages (instruct models)."""

Template = Literal["plain", "reference"]
"""Layout of a completion prompt: this package's own, or the one in the paper's code."""

HeadChoice = Literal["aligned", "any"]
"""Which example pairs prompt heads show; see `RewriteConfig.head_choice`."""

CompletionRule = Literal["normalised", "reference"]
"""How a rewrite is taken from a completion; see `RewriteConfig.completions`."""

WordCount = Literal["words", "spaces"]
"""How the gate counts a rewrite's words; see `GateConfig.word_count`."""

Preset = Literal["paper"]
"""One name for many values; see `config.presets`."""

Delivery = Literal["ahead", "inline", "follow"]
"""How `laclip run` brings rewrites to training; see `RewriteConfig.delivery`."""

TextMode = Literal["sample", "both", "multi"]
"""Texts shown with one image; see `TextConfig.mode`."""

ChoiceScore = Literal["meaning", "added", "picture", "log_probability"]
"""A stored score that differs between the rewrites of one caption."""

PairScore = Literal["meaning", "added", "picture", "caption_picture", "log_probability", "caption_words"]
"""A score of a caption and a rewrite; see `ScoreRampConfig.by`."""

RefusedShare = Literal["others", "caption"]
"""Where a refused rewrite's share of the epochs goes; see `TextConfig.refused`."""

StreamOrder = Literal["fast", "exact"]
"""Guarantee on the order of training samples; see `StreamConfig.order`."""

LossKind = Literal["clip", "siglip"]
"""The softmax over the batch, or SigLIP's sigmoid for each pair."""

Precision = Literal["fp32", "bf16"]
"""Number format of the forward pass."""

NonFiniteLoss = Literal["stop", "skip"]
"""Reaction to a batch whose loss is infinite or not a number."""

Search = Literal["grid", "random", "optuna"]
"""How a sweep chooses its points; see `TuneConfig.search`."""

TrackerName = Literal["tensorboard", "wandb", "trackio", "mlflow"]
"""An experiment tracker; see `TrackConfig.report_to`."""


def number_or_mapping(value: object) -> str:
    """Name the alternative of a union that a value belongs to, so validation errors are about that one."""
    return "<mapping>" if isinstance(value, Mapping | BaseModel) else "<number>"


def number_name_mapping_or_score(value: object) -> str:
    """Like `number_or_mapping`, for unions of a number, a name, and two kinds of mappings: one has the key `by`."""
    has_score = "by" in value if isinstance(value, Mapping) else hasattr(value, "by")
    return "<score>" if has_score else "<name>" if isinstance(value, str) else number_or_mapping(value)


def name_or_mapping(value: object) -> str:
    """Like `number_or_mapping`, for unions of a name and a mapping."""
    return "<mapping>" if isinstance(value, Mapping | BaseModel) else "<name>"


class Section(BaseModel):
    """Base of all sections: strict types, no unknown keys, frozen after validation."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    def __setstate__(self, state: dict[Any, Any]) -> None:
        """Register the secrets of a section that another process sent, so this process redacts them too."""
        super().__setstate__(state)
        register_secrets(state["__dict__"])


class WorkerRange(Section):
    """Number of processes of one kind."""

    min: PositiveInt = 1
    """Work starts when this many are up."""
    max: PositiveInt = 1
    """Upper bound, reached if the cluster has room."""

    @model_validator(mode="after")
    def _ordered(self) -> "WorkerRange":
        if self.max < self.min:
            raise ValueError(f"max ({self.max}) is smaller than min ({self.min})")
        return self


class BudgetConfig(Section):
    """Limit on the cost of rewriting or a sweep, over all runs into one output. At the limit a run ends incomplete."""

    gpu_hours: PositiveFloat | None = None
    """GPU-hours of the engines, or of a sweep's training workers. None: no limit."""
    money: PositiveFloat | None = None
    """In the price list's currency. Needs `rewrite.price`; a sweep takes `train.price` first. None: no limit."""
