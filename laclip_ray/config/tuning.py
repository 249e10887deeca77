"""A sweep."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from laclip_ray.config.fields import (
    BudgetConfig,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
    Search,
    Section,
)
from laclip_ray.config.training import RampConfig


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
    search: Search = "grid"
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
