"""One experiment as one strict, frozen model with a section for each part of the package.

An experiment is a YAML file plus dotted overrides (`train.epochs=3`). `${NAME}` in a string is replaced from the
environment; files that a run writes keep `${NAME}`. Unknown keys and wrong types are refused with the key's full path
and the nearest key. Derived values are properties or
functions, never written back. Facts about a field (`markers`) stand at the field.

Secrets do not belong here: object-store credentials come from the environment or the cloud's own chain.
"""

from laclip_ray.config.data import DataConfig
from laclip_ray.config.evaluation import EvaluateConfig, RetrievalConfig, RetrievalDataConfig, ZeroShotConfig
from laclip_ray.config.experiment import Experiment, RayConfig
from laclip_ray.config.facts import FieldFacts, marked_keys, walk
from laclip_ray.config.fields import (
    BudgetConfig,
    CaptionChoice,
    Delivery,
    EqualCaptions,
    ExportTarget,
    Format,
    ImportJoin,
    LossKind,
    ModelLayout,
    NonFiniteLoss,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Precision,
    Probability,
    PromptMode,
    Quoting,
    Search,
    Section,
    StreamOrder,
    Template,
    TextMode,
    WorkerRange,
)
from laclip_ray.config.loading import (
    load_experiment,
    parse_experiment,
    to_config,
    to_yaml,
    with_absolute_paths,
    with_overrides,
)
from laclip_ray.config.markers import (
    CanBeSwept,
    ChangesNoVerdict,
    FixedInSweep,
    InputPath,
    MayChangeOnResume,
    OutputPath,
    SharedBySweep,
)
from laclip_ray.config.rewriting import (
    DEMO_REWRITER,
    MAX_REWRITES_PER_SET,
    EngineConfig,
    GateConfig,
    MeaningGateConfig,
    PictureGateConfig,
    RewriteConfig,
    SamplingConfig,
)
from laclip_ray.config.training import CheckpointConfig, ModelConfig, RampConfig, StreamConfig, TextConfig, TrainConfig
from laclip_ray.config.tuning import HalvingConfig, SpaceConfig, TuneConfig

__all__ = [
    "DEMO_REWRITER",
    "MAX_REWRITES_PER_SET",
    "BudgetConfig",
    "CanBeSwept",
    "CaptionChoice",
    "ChangesNoVerdict",
    "CheckpointConfig",
    "DataConfig",
    "Delivery",
    "EngineConfig",
    "EqualCaptions",
    "EvaluateConfig",
    "Experiment",
    "ExportTarget",
    "FieldFacts",
    "FixedInSweep",
    "Format",
    "GateConfig",
    "HalvingConfig",
    "ImportJoin",
    "InputPath",
    "LossKind",
    "MayChangeOnResume",
    "ModelConfig",
    "ModelLayout",
    "NonFiniteLoss",
    "NonNegativeFloat",
    "NonNegativeInt",
    "OutputPath",
    "MeaningGateConfig",
    "PictureGateConfig",
    "PositiveFloat",
    "PositiveInt",
    "Precision",
    "Probability",
    "PromptMode",
    "Quoting",
    "RampConfig",
    "RayConfig",
    "RetrievalConfig",
    "RetrievalDataConfig",
    "RewriteConfig",
    "SamplingConfig",
    "Search",
    "Section",
    "SharedBySweep",
    "SpaceConfig",
    "StreamConfig",
    "StreamOrder",
    "Template",
    "TextConfig",
    "TextMode",
    "TrainConfig",
    "TuneConfig",
    "WorkerRange",
    "ZeroShotConfig",
    "load_experiment",
    "marked_keys",
    "parse_experiment",
    "to_config",
    "to_yaml",
    "walk",
    "with_absolute_paths",
    "with_overrides",
]
