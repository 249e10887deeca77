"""A sweep over p and other settings of training."""

from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from laclip_ray.config.fields import (
    BudgetConfig,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Search,
    Section,
)
from laclip_ray.config.markers import OutputPath
from laclip_ray.config.training import TextProbability


class SpaceConfig(Section):
    """The values of one key in a sweep: exactly one of the fields."""

    grid: Annotated[list[Any], Field(min_length=1)] | None = None
    """A list of values."""
    uniform: tuple[float, float] | None = None
    """Numbers between two bounds, uniformly (`random` and `optuna`)."""
    log_uniform: tuple[PositiveFloat, PositiveFloat] | None = None
    """Numbers between two bounds, uniformly in the logarithm (`random` and `optuna`)."""

    @field_validator("uniform", "log_uniform", mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        # YAML has no tuples, and strict validation refuses a list.
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _is_one(self) -> "SpaceConfig":
        if sum(values is not None for values in (self.grid, self.uniform, self.log_uniform)) != 1:
            raise ValueError("give one of grid, uniform and log_uniform")
        for bounds in (self.uniform, self.log_uniform):
            if bounds is not None and not bounds[0] < bounds[1]:
                raise ValueError(f"expected the smaller bound first, got {list(bounds)}")
        return self


class HalvingConfig(Section):
    """Asynchronous successive halving (ASHA; Li et al., 2020): poor points end early, with all their seeds."""

    first_epochs: PositiveInt = 1
    """Every point trains for at least this many epochs."""
    reduction: Annotated[int, Field(ge=2)] = 3
    """One in this many points continues at each rung. Rungs are at `first_epochs`, times `reduction`, times its square,
    and so on."""


class TuneConfig(Section):
    """A sweep: which augmentation probability p, with which other settings, gives the best model."""

    output: Annotated[str | None, OutputPath()] = None
    """Directory or URL of the runs and the table. None: `tune` under `output`."""
    p: Annotated[list[TextProbability], Field(min_length=1)] | None = [
        *(0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
    ]
    """A grid of `text.p`: numbers, `uniform`, ramps over epochs or scores. None: `space` sweeps p, or p is fixed."""
    space: dict[str, SpaceConfig] = {}
    """Values of further keys, such as `train.learning_rate: {log_uniform: [1e-4, 1e-2]}`."""
    search: Search = "grid"
    """`grid`: every combination. `random`: `points` random ones. `optuna`: `points`, each chosen by the results of
    earlier ones (TPE)."""
    points: PositiveInt = 20
    """Number of points for `random` and `optuna`."""
    seeds: Annotated[list[int], Field(min_length=1)] = [0]
    """Each point is trained once per seed. With the same seed, all points share the initial weights, the order, the
    crops and the draws of texts."""
    metric: str | None = None
    """Column of `sweep.csv` to maximise. None: the first zero-shot top-1, or else the first recall."""
    evaluate_every_epochs: PositiveInt | None = None
    """Epochs between evaluations. None: evaluate at the end, and at each rung of `halving`."""
    halving: HalvingConfig | None = None
    """End poor points early. None: every point is trained to the end."""
    max_concurrent_runs: PositiveInt | None = None
    """Training runs at the same time. None: as many as fit in the cluster (in its largest size if it autoscales)."""
    max_failures: NonNegativeInt = 1
    """How often a failed point restarts from its checkpoints."""
    budget: BudgetConfig = BudgetConfig()
    """Limit on the cost of the sweep's training, checked after each evaluation. At the limit no point starts, and
    running ones stop."""
