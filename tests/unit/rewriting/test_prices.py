"""Price lists and budgets are checked, and spending is compared with its limits exactly."""

import json
from pathlib import Path

import pytest

from laclip_ray.config import BudgetConfig, RewriteConfig
from laclip_ray.errors import UserError
from laclip_ray.rewriting.prices import (
    BUILT_IN_PRICES,
    Spending,
    budget_reached,
    check_budget,
    cost_per_thousand,
    load_prices,
    spending,
)
from tests.unit.rewriting.priced_data import PRICES, write_prices

# --- the price list


def test_the_default_list_is_the_one_in_the_package() -> None:
    prices = load_prices(None)
    assert prices == load_prices(str(BUILT_IN_PRICES))
    assert prices.price("h100").accelerator == "H100-80GB"


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("prices", "big", "accelerator"), "NONE", r"prices\.big\.accelerator: 'NONE' is not under accelerators"),
        (("prices", "big", "per_gpu_hour"), "4", r"prices\.big\.per_gpu_hour: Input should be a valid number"),
        (("prices", "big", "per_gpu_hour"), 0, r"prices\.big\.per_gpu_hour: Input should be greater than 0"),
        (("prices", "big", "colour"), 1, r"prices\.big\.colour: Extra inputs"),
        (("accelerators", "BIG", "decode_tokens_per_s"), None, r"accelerators\.BIG\.decode_tokens_per_s"),
    ],
)
def test_a_wrong_value_in_a_price_list_is_refused_with_its_path(
    tmp_path: Path, place: tuple[str, str, str], value: object, message: str
) -> None:
    content = json.loads(json.dumps(PRICES))
    content[place[0]][place[1]][place[2]] = value
    with pytest.raises(UserError, match=rf"rewrite\.prices: (?s:.*){message}"):
        load_prices(write_prices(tmp_path, content))


def test_a_price_list_that_is_none_or_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no price list at .*none\.yaml"):
        load_prices(str(tmp_path / "none.yaml"))
    (tmp_path / "text.yaml").write_text("a: [")
    with pytest.raises(UserError, match="not readable as YAML"):
        load_prices(str(tmp_path / "text.yaml"))


def test_an_unknown_price_is_refused_and_those_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"rewrite\.price: 'huge' is not in the price list; it has big, small"):
        load_prices(write_prices(tmp_path)).price("huge")


# --- spending and budgets


def test_money_is_hours_at_the_price_and_none_without_one(tmp_path: Path) -> None:
    rewrite = RewriteConfig(price="big", prices=write_prices(tmp_path))
    assert spending(2.5, rewrite) == Spending(2.5, 10.0, "EUR")
    assert spending(2.5, RewriteConfig()) == Spending(2.5, None, None)


def test_a_budget_is_reached_at_its_limit_and_not_before() -> None:
    budget = BudgetConfig(gpu_hours=2.0, money=10.0)
    assert budget_reached(Spending(1.99, 9.99, "EUR"), budget) is None
    assert "rewrite.budget.gpu_hours is reached: 2.00 of 2" in str(budget_reached(Spending(2.0, 1.0, "EUR"), budget))
    assert "rewrite.budget.money is reached: 10.00 of 10 EUR" in str(budget_reached(Spending(1.0, 10.0, "EUR"), budget))
    assert budget_reached(Spending(1e9, None, None), BudgetConfig()) is None


def test_the_cost_of_a_thousand_rewrites_needs_a_price_and_a_rewrite() -> None:
    assert cost_per_thousand(Spending(1.0, 3.0, "EUR"), 1_500) == pytest.approx(2.0)
    assert cost_per_thousand(Spending(1.0, 3.0, "EUR"), 0) is None
    assert cost_per_thousand(Spending(1.0, None, None), 10) is None


def test_a_budget_in_money_without_a_price_is_refused(tmp_path: Path) -> None:
    prices = write_prices(tmp_path)
    with pytest.raises(UserError, match=r"rewrite\.budget\.money needs rewrite\.price, .*\(big, small\)"):
        check_budget(RewriteConfig(budget=BudgetConfig(money=1.0), prices=prices))
    with pytest.raises(UserError, match=r"rewrite\.price: 'huge'"):
        check_budget(RewriteConfig(price="huge", prices=prices))
    check_budget(RewriteConfig(budget=BudgetConfig(money=1.0), price="small", prices=prices))
    check_budget(RewriteConfig(budget=BudgetConfig(gpu_hours=1.0)))
