"""Token counts match the prompts that rewriting would send."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from laclip_ray import storage
from laclip_ray.config import RewriteConfig, SamplingConfig
from laclip_ray.data.records import Shard
from laclip_ray.data.shards import list_shards
from laclip_ray.errors import UserError
from laclip_ray.rewriting.forecasting.token_counts import (
    REJECTED_SHARE,
    CaptionSample,
    SetTokens,
    count_captions,
    count_set,
    sample_captions,
)
from laclip_ray.rewriting.prompting.prompts import choose_head, load_prompt_set
from laclip_ray.rewriting.recipe import model_directory
from tests.cases import case
from tests.unit.rewriting.heads_of import completion_heads
from tests.unit.rewriting.priced_data import experiment, write_captions


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(model_directory("demo-rewriter"))


# --- the sample


def test_the_sample_is_a_function_of_the_seed_and_reads_few_shards(tmp_path: Path) -> None:
    write_captions(tmp_path / "data", shards=12, rows=30)
    settings = experiment(tmp_path)
    shards = list_shards(settings.data)
    first = sample_captions(shards, settings.data, settings.rewrite, seed=0, shard_count=4, caption_count=25)
    assert first == sample_captions(
        shards[::-1], settings.data, settings.rewrite, seed=0, shard_count=4, caption_count=25
    )
    assert (first.shards, first.rows, first.distinct, len(first.captions)) == (4, 120, 120, 25)
    assert len({sample_id.split("/")[0] for sample_id, _ in first.captions}) == 4
    other = sample_captions(shards, settings.data, settings.rewrite, seed=1, shard_count=4, caption_count=25)
    assert other.captions != first.captions


def test_only_captions_that_would_be_rewritten_are_sampled_each_once_a_shard(tmp_path: Path) -> None:
    captions = ["a box", "a box", "", "x" * 1_001, None, "a cup"]
    lines = [json.dumps({"url": str(row), "caption": caption}) for row, caption in enumerate(captions)]
    for name in ("0.jsonl", "1.jsonl"):
        storage.write_bytes(str(tmp_path / "data" / name), "\n".join(lines).encode())
    settings = experiment(tmp_path)
    sample = sample_captions(list_shards(settings.data), settings.data, settings.rewrite, seed=0)
    assert (sample.rows, sample.distinct) == (12, 4)
    assert sorted(sample.captions) == [("0", "a box"), ("0", "a box"), ("5", "a cup"), ("5", "a cup")]


def test_shards_without_a_row_count_are_taken_to_be_as_long_as_those_read() -> None:
    tars = [Shard(f"{number}.tar", "", "webdataset") for number in range(100)]
    sample = CaptionSample(shards=8, rows=8 * 900 + 4, distinct=0, captions=())
    assert count_captions(tars, sample) == 90_050
    assert (
        count_captions([Shard("a", "", "parquet", row_count=7), Shard("b", "", "parquet", row_count=5)], sample) == 12
    )


def test_tars_that_the_dataset_index_counts_are_counted() -> None:
    tars = [Shard(f"{number}.tar", "", "webdataset", listed_rows=500 + number) for number in range(3)]
    of_table = CaptionSample(shards=1, rows=501, distinct=0, captions=(), listed_rows=501)
    assert count_captions(tars, of_table) == 500 + 501 + 502
    half = CaptionSample(shards=1, rows=250, distinct=0, captions=(), listed_rows=500)
    assert count_captions(tars, half) == 752
    assert count_captions([*tars, Shard("3.tar", "", "webdataset")], of_table) == 1_503 + 501


@case(
    "Reading data", "an estimate with data.captions: all, or with an unreadable file", "captions are counted, not rows"
)
def test_lists_of_captions_and_unreadable_files_are_counted_as_they_are_read(tmp_path: Path) -> None:
    rows = [json.dumps({"url": str(row), "caption": [f"caption {row}", f"other {row}"]}) for row in range(5)]
    for number in range(9):
        storage.write_bytes(str(tmp_path / "data" / f"{number}.jsonl"), "\n".join(rows).encode())
    storage.write_bytes(str(tmp_path / "data" / "bad.jsonl"), b"version https://git-lfs.github.com/spec/v1\n")
    settings = experiment(tmp_path)
    for choice, captions in (("first", 45), ("all", 90)):
        data = settings.data.model_copy(update={"captions": choice})
        shards = list_shards(data)
        sample = sample_captions(shards, data, settings.rewrite, seed=0)
        assert count_captions(shards, sample) == captions


def test_a_shard_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_captions(tmp_path / "data", shards=1, rows=2)

    def fail(*_: object, **__: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr("laclip_ray.rewriting.forecasting.token_counts.read_samples", fail)
    settings = experiment(tmp_path)
    with pytest.raises(UserError, match=r"data\.path: .*00\.jsonl cannot be read: the disk is gone"):
        sample_captions(list_shards(settings.data), settings.data, settings.rewrite, seed=0)


# --- tokens


def test_prompt_tokens_are_those_of_the_prompts_that_rewriting_sends(tokenizer: Any) -> None:
    captions = [(str(number), f"a caption about {number} things  and\nmore") for number in range(40)]
    rewrite = RewriteConfig(heads=4, redraws=0, template="reference")
    cleaned = load_prompt_set("cleaned")
    heads = completion_heads(cleaned, 4, 0, "reference")
    tokens = count_set(cleaned, heads, captions, len(captions), rewrite, 0, tokenizer)
    prompts = [heads[choose_head("cleaned", sample_id, 4, 0)].prompt(caption) for sample_id, caption in captions]
    assert tokens.requests == len(captions)
    assert tokens.prompt_tokens == sum(len(tokenizer(prompt)["input_ids"]) for prompt in prompts)


def test_the_whole_blocks_of_a_head_are_cached_after_its_first_prompt(tokenizer: Any) -> None:
    captions = [(str(number), f"a caption about {number} things") for number in range(40)]
    cleaned = load_prompt_set("cleaned")
    (head,) = heads = completion_heads(cleaned, 1, 0)
    for block in (16, 64):
        rewrite = RewriteConfig.model_validate({"heads": 1, "redraws": 0, "engine": {"args": {"block_size": block}}})
        tokens = count_set(cleaned, heads, captions, 40, rewrite, 0, tokenizer)
        length = len(tokenizer(head.before)["input_ids"])
        assert tokens.cached_tokens % (39 * block) == 0
        assert length - block - 1 <= tokens.cached_tokens / 39 <= length + 1
        assert tokens.computed_tokens == tokens.prompt_tokens - tokens.cached_tokens > 0


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
    cleaned = load_prompt_set("cleaned")

    def count(redraws: int, rewrites_per_set: int = 1, temperature: float = 0.9) -> SetTokens:
        sampling = SamplingConfig(temperature=temperature)
        config = RewriteConfig(redraws=redraws, rewrites_per_set=rewrites_per_set, sampling=sampling)
        return count_set(cleaned, completion_heads(cleaned, 32, 0), [("0", "a box")], 1_000, config, 0, tokenizer)

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
