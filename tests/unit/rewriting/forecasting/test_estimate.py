"""An estimate turns tokens into GPU-hours and money, and names its assumptions."""

import subprocess
import sys
from pathlib import Path

import pytest
from transformers import LlamaConfig, Qwen3Config

from laclip_ray import storage
from laclip_ray.config import RewriteConfig
from laclip_ray.errors import UserError
from laclip_ray.rewriting.forecasting.estimate import (
    SMALLEST_BILLION_PARAMETERS,
    Measured,
    billion_parameters_of,
    estimate_rewriting,
    measured_in,
    price_tokens,
)
from laclip_ray.rewriting.forecasting.token_counts import SetTokens
from laclip_ray.rewriting.prices import Spending, load_prices
from tests.unit.rewriting.priced_data import experiment, write_captions, write_prices

TOKENS = SetTokens("cleaned", 1_000, 5_000_000, 3_000_000, 1_000_000, 1.0)
"""2,000,000 computed prompt tokens and 1,000,000 output tokens: 200 s of the big GPU."""


# --- GPU-hours and money


def test_without_a_price_every_price_is_a_row(tmp_path: Path) -> None:
    prices = load_prices(write_prices(tmp_path))
    big, small = price_tokens([TOKENS], RewriteConfig(), prices, 8.0, None)
    assert [big.name, big.gpu_hours, big.money] == ["big", pytest.approx(200 / 3600), pytest.approx(800 / 3600)]
    assert [small.name, small.gpu_hours, small.money] == [
        "small",
        pytest.approx(2000 / 3600),
        pytest.approx(1000 / 3600),
    ]
    assert (big.fits, small.fits) == (True, False)
    split = RewriteConfig.model_validate({"price": "small", "engine": {"tensor_parallel_size": 2}})
    (row,) = price_tokens([TOKENS], split, prices, 8.0, None)
    assert (row.gpu_hours, row.fits) == (small.gpu_hours, True)


def test_the_assumed_rate_scales_with_the_models_size_down_to_a_bound(tmp_path: Path) -> None:
    prices = load_prices(write_prices(tmp_path))

    def hours(billions: float | None) -> float:
        return price_tokens([TOKENS], RewriteConfig(price="big"), prices, billions, None)[0].gpu_hours

    assert hours(16.0) == pytest.approx(2 * hours(8.0))
    assert hours(None) == hours(8.0)
    assert hours(0.001) == hours(SMALLEST_BILLION_PARAMETERS) == pytest.approx(hours(8.0) / 8)


def test_a_measured_rate_replaces_the_assumed_one(tmp_path: Path) -> None:
    prices = load_prices(write_prices(tmp_path))
    # A tenth of the tokens, in twice the time that the list would give: 2 * 20 s.
    measured = Measured(40 / 3600, TOKENS.computed_tokens // 10, TOKENS.output_tokens // 10)
    (row,) = price_tokens([TOKENS], RewriteConfig(price="big"), prices, 70.0, measured)
    assert [row.gpu_hours, row.money] == [pytest.approx(400 / 3600), pytest.approx(1600 / 3600)]
    (row,) = price_tokens([TOKENS], RewriteConfig(), prices, 70.0, measured)
    assert [row.name, row.gpu_hours, row.money] == ["as measured", pytest.approx(400 / 3600), None]


def test_a_summary_gives_a_rate_once_it_has_hours_and_tokens() -> None:
    counts = {"captions": 9, "accepted": 8, "prompt_tokens": 100, "cached_tokens": 60, "output_tokens": 30}
    summary = {"gpu_hours": 0.5, "prompt_sets": {"a": counts, "b": counts}}
    assert measured_in(summary) == Measured(0.5, 80, 60)
    assert measured_in({**summary, "gpu_hours": 0.0}) is None
    assert measured_in({"gpu_hours": 0.5, "prompt_sets": {}}) is None
    assert measured_in({"prompt_sets": {"a": counts}}) is None


def test_a_models_size_comes_from_its_configuration() -> None:
    qwen3_8b = Qwen3Config(
        hidden_size=4096, intermediate_size=12288, num_hidden_layers=36, num_attention_heads=32, num_key_value_heads=8,
        head_dim=128, vocab_size=151936, tie_word_embeddings=False,
    )  # fmt: skip
    assert billion_parameters_of(qwen3_8b) == pytest.approx(8.19, abs=0.01)  # its card: 8.2
    assert billion_parameters_of(LlamaConfig()) == pytest.approx(6.74, abs=0.01)  # LLaMA-7B, on its card
    experts = LlamaConfig()
    experts.num_experts = 8
    assert billion_parameters_of(experts) is None


# --- the whole estimate


def test_an_estimate_covers_all_of_the_data_and_writes_nothing(tmp_path: Path) -> None:
    write_captions(tmp_path / "data", shards=10, rows=60)
    settings = experiment(tmp_path, redraws=0, price="big", prices=write_prices(tmp_path))
    before = sorted(tmp_path.rglob("*"))
    estimate = estimate_rewriting(settings)
    assert sorted(tmp_path.rglob("*")) == before
    assert estimate == estimate_rewriting(settings)
    assert (estimate.captions, estimate.captions_are_counted, estimate.shards, estimate.shards_read) == (
        600,
        True,
        10,
        8,
    )
    assert (estimate.captions_read, estimate.captions_sampled, estimate.distinct_share) == (480, 400, 1.0)
    assert [(tokens.prompt_set, tokens.requests) for tokens in estimate.sets] == [("cleaned", 600), ("crowd", 600)]
    assert (estimate.measured, estimate.spent, estimate.currency) == (False, Spending(0.0, 0.0, "EUR"), "EUR")
    assert [row.name for row in estimate.costs] == ["big"]
    assert any(note.startswith("throughput: assumed, not measured") for note in estimate.notes)


def test_an_estimate_uses_what_a_run_into_the_same_output_has_measured(tmp_path: Path) -> None:
    write_captions(tmp_path / "data", shards=1, rows=20)
    settings = experiment(tmp_path, price="big", prices=write_prices(tmp_path))
    counts = {"prompt_tokens": 100, "cached_tokens": 0, "output_tokens": 10}
    storage.write_json(
        f"{settings.rewrite_output}/summary.json", {"gpu_hours": 1.5, "prompt_sets": {"cleaned": counts}}
    )
    storage.write_json(f"{settings.rewrite_output}/cleaned/recipe.json", {"recipe": {"model": "demo-rewriter"}})
    estimate = estimate_rewriting(settings)
    assert (estimate.measured, estimate.spent) == (True, Spending(1.5, 6.0, "EUR"))
    storage.write_json(f"{settings.rewrite_output}/cleaned/recipe.json", {"recipe": {"model": "another"}})
    other = estimate_rewriting(settings)
    assert not other.measured
    assert any("rewrites of another model (another)" in note for note in other.notes)


def test_an_estimate_says_how_far_the_budget_goes(tmp_path: Path) -> None:
    write_captions(tmp_path / "data", shards=1, rows=50)
    prices = write_prices(tmp_path)
    whole = estimate_rewriting(experiment(tmp_path, price="big", prices=prices)).costs[0]
    budget = {"gpu_hours": whole.gpu_hours / 4}
    notes = estimate_rewriting(experiment(tmp_path, price="big", prices=prices, budget=budget)).notes
    assert [note for note in notes if "is reached after about 25% of it" in note]


def test_a_tokenizer_that_cannot_be_loaded_is_refused(tmp_path: Path) -> None:
    write_captions(tmp_path / "data", shards=1, rows=2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"rewrite\.model: the tokeni[sz]er of .*empty' cannot be loaded"):
        estimate_rewriting(experiment(tmp_path, model=str(tmp_path / "empty")))


def test_estimating_imports_neither_ray_nor_an_engine(tmp_path: Path) -> None:
    write_captions(tmp_path / "data", shards=1, rows=2)
    program = (
        "import sys\n"
        "from laclip_ray.config import parse_experiment\n"
        "from laclip_ray.rewriting.forecasting.estimate import estimate_rewriting\n"
        f"estimate_rewriting(parse_experiment({experiment(tmp_path).model_dump(mode='json')!r}))\n"
        "print([name for name in ('ray', 'vllm') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
