"""The price list, the spending of engines, and the budget that limits it."""

from dataclasses import dataclass
from datetime import date as Date
from functools import cache
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, ValidationError, model_validator

from laclip_ray import storage
from laclip_ray.config import BudgetConfig, PositiveFloat, RewriteConfig, Section
from laclip_ray.errors import UserError
from laclip_ray.nearest import did_you_mean
from laclip_ray.printable import counted

BUILT_IN_PRICES = Path(__file__).parent / "prices.yaml"


class Price(Section):
    """Price of one GPU under one rental offer."""

    accelerator: str
    """Name of the GPU under `accelerators`."""
    per_gpu_hour: PositiveFloat
    """Price in the list's currency."""
    date: Date
    """Date of the price."""
    source: Annotated[str, Field(min_length=1)]
    """Source of the price."""


class Accelerator(Section):
    """Assumed throughput of one GPU for a bf16 model of the list's reference size."""

    memory_gb: PositiveFloat
    """Memory in GB."""
    prefill_tokens_per_s: PositiveFloat
    """Prompt tokens per second, without tokens from the prefix cache."""
    decode_tokens_per_s: PositiveFloat
    """Output tokens per second over all running requests."""
    source: Annotated[str, Field(min_length=1)]
    """Source of the rates."""

    def gpu_s(self, computed_prompt_tokens: float, output_tokens: float) -> float:
        """GPU-seconds for a model of the reference size."""
        return computed_prompt_tokens / self.prefill_tokens_per_s + output_tokens / self.decode_tokens_per_s


class PriceList(Section):
    """Prices, and the throughput to assume before one is measured."""

    currency: Annotated[str, Field(min_length=1)]
    reference_billion_parameters: PositiveFloat
    """Model size of the accelerators' rates, in billions of parameters."""
    prices: Annotated[dict[str, Price], Field(min_length=1)]
    accelerators: Annotated[dict[str, Accelerator], Field(min_length=1)]

    @model_validator(mode="after")
    def _accelerators_are_known(self) -> "PriceList":
        for name, price in self.prices.items():
            if price.accelerator not in self.accelerators:
                raise ValueError(f"prices.{name}.accelerator: {price.accelerator!r} is not under accelerators")
        return self

    def price(self, name: str, setting: str = "rewrite.price") -> Price:
        """Look up the price that a setting names.

        Raises:
            UserError: the list has no such price; the message names the prices in it.
        """
        if name not in self.prices:
            near = did_you_mean(name, self.prices)
            raise UserError(f"{setting}: {name!r} is not in the price list; it has {', '.join(self.prices)}{near}")
        return self.prices[name]


@cache
def load_prices(path: str | None) -> PriceList:
    """Read a price list. None reads the list in this package. A process reads each list once.

    Raises:
        UserError: the file is missing or is not a price list; the message names the key and the expected value.
    """
    where = str(path or BUILT_IN_PRICES)
    try:
        content = yaml.safe_load(storage.read_bytes(where))
    except FileNotFoundError as error:
        raise UserError(f"rewrite.prices: there is no price list at {where}") from error
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"rewrite.prices: {where} is not readable as YAML: {error}") from error
    try:
        return PriceList.model_validate(content)
    except ValidationError as error:
        lines = [
            f"  {'.'.join(map(str, issue['loc']))}{': ' if issue['loc'] else ''}{issue['msg']}"
            for issue in error.errors()
        ]
        raise UserError(
            "\n".join([f"rewrite.prices: {where}: {counted(len(lines), 'invalid value')}", *lines])
        ) from error


@dataclass(frozen=True)
class Spending:
    """Accumulated cost of engines."""

    gpu_hours: float
    money: float | None
    """None without a price."""
    currency: str | None


def spending(gpu_hours: float, rewrite: RewriteConfig) -> Spending:
    """The cost of `gpu_hours` at `rewrite.price`."""
    if rewrite.price is None:
        return Spending(gpu_hours, None, None)
    prices = load_prices(rewrite.prices)
    return Spending(gpu_hours, gpu_hours * prices.price(rewrite.price).per_gpu_hour, prices.currency)


def check_budget(rewrite: RewriteConfig) -> None:
    """Refuse a price or a budget that cannot be applied.

    Raises:
        UserError: a budget in money without a price, or an unknown price, or a missing price list.
    """
    if rewrite.budget.money is not None and rewrite.price is None:
        names = ", ".join(load_prices(rewrite.prices).prices)
        raise UserError(f"rewrite.budget.money needs rewrite.price, a name from the price list ({names})")
    if rewrite.price is not None:
        load_prices(rewrite.prices).price(rewrite.price)


def budget_reached(spent: Spending, budget: BudgetConfig) -> str | None:
    """Name the reached limit and the spending, or return None while some budget remains."""
    if budget.gpu_hours is not None and spent.gpu_hours >= budget.gpu_hours:
        return f"rewrite.budget.gpu_hours is reached: {spent.gpu_hours:.2f} of {budget.gpu_hours:g} GPU-hours are spent"
    if budget.money is not None:
        assert spent.money is not None, "check_budget refuses a budget in money without a price"
        if spent.money >= budget.money:
            return (
                f"rewrite.budget.money is reached: {spent.money:.2f} of {budget.money:g} {spent.currency} are spent "
                f"({spent.gpu_hours:.2f} GPU-hours)"
            )
    return None


def spending_in_words(spent: Spending, budget: BudgetConfig) -> str:
    """The spending against the budget; empty without a budget.

    >>> spending_in_words(Spending(1.5, 3.0, "USD"), BudgetConfig(money=10.0))
    '3.00 of 10 USD'
    """
    parts = []
    if budget.money is not None and spent.money is not None:
        parts.append(f"{spent.money:,.2f} of {budget.money:,g} {spent.currency}")
    if budget.gpu_hours is not None:
        parts.append(f"{spent.gpu_hours:,.2f} of {budget.gpu_hours:,g} GPU-hours")
    return ", ".join(parts)


def cost_per_thousand(spent: Spending, accepted: int) -> float | None:
    """Money per thousand accepted rewrites. None without a price or without accepted rewrites."""
    return None if spent.money is None or not accepted else spent.money / accepted * 1_000
