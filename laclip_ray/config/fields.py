"""Types of config fields, and the sections that several parts share."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Probability = Annotated[float, Field(ge=0.0, le=1.0)]

PositiveInt = Annotated[int, Field(gt=0)]

NonNegativeInt = Annotated[int, Field(ge=0)]

PositiveFloat = Annotated[float, Field(gt=0)]

NonNegativeFloat = Annotated[float, Field(ge=0)]

Format = Literal["webdataset", "parquet", "csv", "tsv", "jsonl"]
"""File format of a dataset's shards."""

PromptMode = Literal["completion", "chat"]
"""How the language model is asked: a text to continue (base models), or messages (instruct models)."""

Template = Literal["plain", "reference"]
"""Layout of a completion prompt: this package's own, or that of the prompts in the paper's code."""

Delivery = Literal["ahead", "inline", "follow"]
"""How `laclip run` brings rewrites to training; see `RewriteConfig.delivery`."""

TextMode = Literal["sample", "both", "multi"]
"""Texts shown with one image; see `TextConfig.mode`."""

StreamOrder = Literal["fast", "exact"]
"""What the order of training samples guarantees; see `StreamConfig.order`."""

LossKind = Literal["clip", "siglip"]
"""The softmax over the batch, or SigLIP's sigmoid for each pair."""

Precision = Literal["fp32", "bf16"]
"""Number format of the forward pass."""

NonFiniteLoss = Literal["stop", "skip"]
"""Reaction to a batch whose loss is infinite or not a number."""

Search = Literal["grid", "random", "optuna"]
"""How a sweep chooses its points; see `TuneConfig.search`."""

ExportTarget = Literal["parquet", "text", "webdataset"]
"""File format of exported rewrites."""

ModelLayout = Literal["open_clip", "hugging_face"]
"""Library that an exported model is for."""


def number_or_mapping(value: object) -> str:
    """Which of the alternatives of one key a value is meant to be, so that errors speak of that one."""
    return "<mapping>" if isinstance(value, Mapping | BaseModel) else "<number>"


def number_name_or_mapping(value: object) -> str:
    return "<name>" if isinstance(value, str) else number_or_mapping(value)


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, and nothing changes after validation."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


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


class BudgetConfig(Section):
    """What rewriting or a sweep may cost, over all starts into the same output; one that reaches it ends incomplete."""

    gpu_hours: PositiveFloat | None = None
    """GPU-hours of rewriting's engines, or of a sweep's training workers. None: no limit."""
    money: PositiveFloat | None = None
    """In the price list's currency; needs `rewrite.price`, for a sweep `train.price` or that. None: no limit."""
