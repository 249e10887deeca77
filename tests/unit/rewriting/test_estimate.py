"""Prices and budgets are checked and compared exactly; an estimate counts what rewriting would send."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoTokenizer, LlamaConfig, Qwen3Config

from laclip_ray import storage
from laclip_ray.config import BudgetConfig, Experiment, RewriteConfig, SamplingConfig, parse_experiment
from laclip_ray.data.records import Shard
from laclip_ray.data.shards import list_shards
from laclip_ray.errors import UserError
from laclip_ray.rewriting.estimate import (
    REJECTED_SHARE,
    SMALLEST_BILLION_PARAMETERS,
    CaptionSample,
    Measured,
    SetTokens,
    billion_parameters_of,
    count_captions,
    count_set,
    estimate_rewriting,
    measured_in,
    price_tokens,
    sample_captions,
)
from laclip_ray.rewriting.prices import (
    BUILT_IN_PRICES,
    Spending,
    budget_reached,
    check_budget,
    cost_per_thousand,
    load_prices,
    spending,
)
from laclip_ray.rewriting.prompts import choose_head, completion_heads, load_prompt_set
from laclip_ray.rewriting.recipe import model_directory

PRICES: dict[str, Any] = {
    "currency": "EUR",
    "reference_billion_parameters": 8.0,
    "prices": {
        "big": {"accelerator": "BIG", "per_gpu_hour": 4.0, "date": "2026-01-31", "source": "an offer"},
        "small": {"accelerator": "SMALL", "per_gpu_hour": 0.5, "date": "2026-01-31", "source": "an offer"},
    },
    "accelerators": {
        "BIG": {"memory_gb": 80, "prefill_tokens_per_s": 20_000, "decode_tokens_per_s": 10_000, "source": "a guess"},
        "SMALL": {"memory_gb": 12, "prefill_tokens_per_s": 2_000, "decode_tokens_per_s": 1_000, "source": "a guess"},
    },
}
TOKENS = SetTokens("human", 1_000, 5_000_000, 3_000_000, 1_000_000, 1.0)
"""2,000,000 tokens to compute and 1,000,000 out: 200 s of the big GPU."""


def write_prices(tmp_path: Path, content: dict[str, Any] = PRICES) -> str:
    path = tmp_path / "prices.yaml"
    path.write_text(yaml.safe_dump(content).replace("'2026-01-31'", "2026-01-31"))
    return str(path)


def write_captions(directory: Path, shards: int, rows: int) -> None:
    directory.mkdir(exist_ok=True)
    for shard in range(shards):
        lines = [{"url": f"{shard}/{row}", "caption": f"a small red box number {shard} {row}"} for row in range(rows)]
        (directory / f"{shard:02d}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def experiment(tmp_path: Path, **rewrite: Any) -> Experiment:
    return parse_experiment(
        {
            "name": "test",
            "output": str(tmp_path / "out"),
            "data": {"path": str(tmp_path / "data")},
            "rewrite": {"prompt_sets": ["human", "crowd"], **rewrite},
        }
    )


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(model_directory("demo-rewriter"))


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


# --- the sample


def test_the_sample_is_a_function_of_the_seed_and_reads_few_shards(tmp_path: Path) -> None:
    write_captions(tmp_path / "data", shards=12, rows=30)
    given = experiment(tmp_path)
    shards = list_shards(given.data)
    first = sample_captions(shards, given.data, given.rewrite, seed=0, shard_count=4, caption_count=25)
    assert first == sample_captions(shards[::-1], given.data, given.rewrite, seed=0, shard_count=4, caption_count=25)
    assert (first.shards, first.rows, first.distinct, len(first.captions)) == (4, 120, 120, 25)
    assert len({sample_id.split("/")[0] for sample_id, _ in first.captions}) == 4
    other = sample_captions(shards, given.data, given.rewrite, seed=1, shard_count=4, caption_count=25)
    assert other.captions != first.captions


def test_only_captions_that_would_be_rewritten_are_sampled_each_once_a_shard(tmp_path: Path) -> None:
    captions = ["a box", "a box", "", "x" * 1_001, None, "a cup"]
    lines = [json.dumps({"url": str(row), "caption": caption}) for row, caption in enumerate(captions)]
    for name in ("0.jsonl", "1.jsonl"):
        storage.write_bytes(str(tmp_path / "data" / name), "\n".join(lines).encode())
    given = experiment(tmp_path)
    sample = sample_captions(list_shards(given.data), given.data, given.rewrite, seed=0)
    assert (sample.rows, sample.distinct) == (12, 4)
    assert sorted(sample.captions) == [("0", "a box"), ("0", "a box"), ("5", "a cup"), ("5", "a cup")]


def test_shards_without_a_row_count_are_taken_to_be_as_long_as_those_read() -> None:
    tars = [Shard(f"{number}.tar", "", "webdataset") for number in range(100)]
    sample = CaptionSample(shards=8, rows=8 * 900 + 4, distinct=0, captions=())
    assert count_captions(tars, sample) == 90_050
    assert (
        count_captions([Shard("a", "", "parquet", row_count=7), Shard("b", "", "parquet", row_count=5)], sample) == 12
    )


# --- tokens


def test_prompt_tokens_are_those_of_the_prompts_that_rewriting_sends(tokenizer: Any) -> None:
    captions = [(str(number), f"a caption about {number} things  and\nmore") for number in range(40)]
    rewrite = RewriteConfig(heads=4, redraws=0, template="reference")
    human = load_prompt_set("human")
    heads = completion_heads(human, 4, 0, "reference")
    found = count_set(human, heads, captions, len(captions), rewrite, 0, tokenizer)
    prompts = [heads[choose_head("human", sample_id, 4, 0)].prompt(caption) for sample_id, caption in captions]
    assert found.requests == len(captions)
    assert found.prompt_tokens == sum(len(tokenizer(prompt)["input_ids"]) for prompt in prompts)


def test_the_whole_blocks_of_a_head_are_cached_after_its_first_prompt(tokenizer: Any) -> None:
    captions = [(str(number), f"a caption about {number} things") for number in range(40)]
    human = load_prompt_set("human")
    (head,) = heads = completion_heads(human, 1, 0)
    for block in (16, 64):
        rewrite = RewriteConfig.model_validate({"heads": 1, "redraws": 0, "engine": {"args": {"block_size": block}}})
        found = count_set(human, heads, captions, 40, rewrite, 0, tokenizer)
        length = len(tokenizer(head.before)["input_ids"])
        assert found.cached_tokens % (39 * block) == 0
        assert length - block - 1 <= found.cached_tokens / 39 <= length + 1
        assert found.computed_tokens == found.prompt_tokens - found.cached_tokens > 0


def test_output_tokens_follow_the_pairs_of_the_set_up_to_the_limit(tokenizer: Any) -> None:
    captions = [("0", "a small red box on a table")]
    length = len(tokenizer(captions[0][1], add_special_tokens=False)["input_ids"])

    def outputs(name: str, max_tokens: int = 77) -> SetTokens:
        rewrite = RewriteConfig.model_validate({"redraws": 0, "sampling": {"max_tokens": max_tokens}})
        prompt_set = load_prompt_set(name)
        return count_set(prompt_set, completion_heads(prompt_set, 32, 0), captions, 1_000, rewrite, 0, tokenizer)

    vivid, concise = outputs("assistant_vivid"), outputs("assistant_concise")
    assert vivid.expansion > 1.5 > 1.1 > concise.expansion
    assert vivid.output_tokens == pytest.approx(1_000 * (vivid.expansion * length + 1), abs=1)
    assert outputs("assistant_vivid", max_tokens=5).output_tokens == 5_000


def test_more_rewrites_take_more_output_but_prompts_only_where_they_are_drawn_again(tokenizer: Any) -> None:
    human = load_prompt_set("human")

    def count(redraws: int, rewrites_per_set: int = 1, temperature: float = 0.9) -> SetTokens:
        sampling = SamplingConfig(temperature=temperature)
        config = RewriteConfig(redraws=redraws, rewrites_per_set=rewrites_per_set, sampling=sampling)
        return count_set(human, completion_heads(human, 32, 0), [("0", "a box")], 1_000, config, 0, tokenizer)

    once, several = count(redraws=0), count(redraws=0, rewrites_per_set=3)
    assert several.output_tokens == pytest.approx(3 * once.output_tokens, abs=2)  # rounded
    assert several.prompt_tokens == once.prompt_tokens
    rejected = REJECTED_SHARE
    again = count(redraws=2)
    assert again.requests == round(1_000 * (1 + rejected + rejected**2))
    assert again.output_tokens == pytest.approx(once.output_tokens * (1 + rejected + rejected**2), rel=1e-3)
    together = count(redraws=1, rewrites_per_set=3)
    assert together.requests == round(1_000 * (1 + 1 - (1 - rejected) ** 3))
    assert together.output_tokens == pytest.approx(several.output_tokens * (1 + rejected), rel=1e-3)
    assert count(redraws=2, temperature=0.0) == count(redraws=0)


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
    given = experiment(tmp_path, redraws=0, price="big", prices=write_prices(tmp_path))
    before = sorted(tmp_path.rglob("*"))
    found = estimate_rewriting(given)
    assert sorted(tmp_path.rglob("*")) == before
    assert found == estimate_rewriting(given)
    assert (found.captions, found.captions_are_counted, found.shards, found.shards_read) == (600, True, 10, 8)
    assert (found.captions_read, found.captions_sampled, found.distinct_share) == (480, 400, 1.0)
    assert [(each.prompt_set, each.requests) for each in found.sets] == [("human", 600), ("crowd", 600)]
    assert (found.measured, found.spent, found.currency) == (False, Spending(0.0, 0.0, "EUR"), "EUR")
    assert [row.name for row in found.costs] == ["big"]
    assert any(note.startswith("throughput: assumed, not measured") for note in found.notes)


def test_an_estimate_uses_what_a_run_into_the_same_output_has_measured(tmp_path: Path) -> None:
    write_captions(tmp_path / "data", shards=1, rows=20)
    given = experiment(tmp_path, price="big", prices=write_prices(tmp_path))
    counts = {"prompt_tokens": 100, "cached_tokens": 0, "output_tokens": 10}
    storage.write_json(f"{given.rewrite_output}/summary.json", {"gpu_hours": 1.5, "prompt_sets": {"human": counts}})
    storage.write_json(f"{given.rewrite_output}/human/recipe.json", {"recipe": {"model": "demo-rewriter"}})
    found = estimate_rewriting(given)
    assert (found.measured, found.spent) == (True, Spending(1.5, 6.0, "EUR"))
    storage.write_json(f"{given.rewrite_output}/human/recipe.json", {"recipe": {"model": "another"}})
    other = estimate_rewriting(given)
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


def test_a_shard_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_captions(tmp_path / "data", shards=1, rows=2)

    def fail(*_: object, **__: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr("laclip_ray.rewriting.estimate.read_samples", fail)
    with pytest.raises(UserError, match=r"data\.path: .*00\.jsonl cannot be read: the disk is gone"):
        estimate_rewriting(experiment(tmp_path))


def test_estimating_imports_neither_ray_nor_an_engine(tmp_path: Path) -> None:
    write_captions(tmp_path / "data", shards=1, rows=2)
    program = (
        "import sys\n"
        "from laclip_ray.config import parse_experiment\n"
        "from laclip_ray.rewriting.estimate import estimate_rewriting\n"
        f"estimate_rewriting(parse_experiment({experiment(tmp_path).model_dump(mode='json')!r}))\n"
        "print([name for name in ('ray', 'vllm') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
