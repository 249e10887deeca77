"""A preview rewrites a random sample as a run would, counts everything, and stores nothing."""

import asyncio
import json
import signal
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from laclip_ray import storage
from laclip_ray.config import RewriteConfig
from laclip_ray.errors import IncompleteError, UserError
from laclip_ray.rewriting.engines.engine import Answer, EngineDiedError, EngineStartError
from laclip_ray.rewriting.engines.work import EngineWork
from laclip_ray.rewriting.forecasting import preview as preview_module
from laclip_ray.rewriting.forecasting.preview import Preview, PreviewPlan, check_page, plan_preview, run_preview
from laclip_ray.rewriting.forecasting.preview_forecast import extend, forecast, total_work
from laclip_ray.rewriting.forecasting.token_counts import SetTokens
from laclip_ray.rewriting.judging.meaning import MeaningScores, Pair
from laclip_ray.rewriting.running.generator import useful_redraws
from laclip_ray.rewriting.scoring.meaning_batches import BatchedEncoders
from laclip_ray.rewriting.scoring.meaning_verdicts import MeaningGate
from tests.cases import case
from tests.unit.rewriting.meaning_fakes import FakeEncoders, meaning_gate
from tests.unit.rewriting.priced_data import experiment, write_captions, write_prices
from tests.unit.rewriting.rounds import DEADLY, UNANSWERED, RandomEngine


@pytest.fixture(autouse=True)
def _no_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """These engines have no processes."""
    monkeypatch.setattr(preview_module, "kill_children_when_gone", lambda: None)


class ClosingEngine(RandomEngine):
    """Knows whether it was closed."""

    is_closed = False

    def close(self) -> None:
        self.is_closed = True


class InterruptedEngine(ClosingEngine):
    """Somebody presses Ctrl-C while it works."""

    async def generate(self, prompt: str, count: int, request_id: str) -> Answer:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        await asyncio.sleep(20)
        raise EngineDiedError("nobody was interrupted")


def planned(tmp_path: Path, captions: int = 12, seed: int = 0, **rewrite: Any) -> PreviewPlan:
    if not (tmp_path / "data").exists():
        write_captions(tmp_path / "data", shards=4, rows=20)
    return plan_preview(experiment(tmp_path, **rewrite), captions, seed)


def previewed(plan: PreviewPlan, engine: RandomEngine | None = None) -> Preview:
    return run_preview(plan, lambda *_: engine or RandomEngine(Random(0)))


def write_lines(directory: Path, captions: Sequence[Any]) -> None:
    lines = [json.dumps({"url": str(row), "caption": caption}) for row, caption in enumerate(captions)]
    storage.write_bytes(str(directory / "data" / "0.jsonl"), "\n".join(lines).encode())


# --- the sample


def test_the_sample_is_a_function_of_the_seed_over_several_shards(tmp_path: Path) -> None:
    captions = planned(tmp_path).sample.captions
    assert planned(tmp_path).sample.captions == captions
    assert planned(tmp_path, seed=1).sample.captions != captions
    assert len(captions) == 12
    assert len({sample_id.split("/")[0] for sample_id, _ in captions}) > 1


def test_more_captions_begin_with_the_same_ones(tmp_path: Path) -> None:
    few, many = (planned(tmp_path, captions).sample.captions for captions in (5, 30))
    assert many[:5] == few


def test_captions_without_text_are_counted_and_not_drawn(tmp_path: Path) -> None:
    write_lines(tmp_path, ["a red box", "", None, "12.5", "x" * 1_001, "a red box", "a blue cup"])
    sample = planned(tmp_path).sample
    assert sorted(caption for _, caption in sample.captions) == ["a blue cup", "a red box"]
    assert sample.not_rewritten == {
        "caption_empty": 1,
        "caption_missing": 1,
        "nothing_to_rewrite": 1,
        "caption_too_long": 1,
    }
    assert (sample.rows, sample.distinct) == (7, 2)


@case(
    "Reading data",
    "`laclip rewrites preview` of a sample without a caption to rewrite",
    "refused with the reasons, before an engine starts",
    2,
)
def test_a_sample_without_captions_to_rewrite_is_refused(tmp_path: Path) -> None:
    write_lines(tmp_path, ["12.5", "###"])
    with pytest.raises(UserError, match=r"none of the 2 samples of 1 shards .*nothing_to_rewrite 2"):
        planned(tmp_path)


# --- the draws


def test_every_caption_has_the_draws_of_a_run_in_every_prompt_set(tmp_path: Path) -> None:
    plan = planned(tmp_path, rewrites_per_set=2, redraws=2)
    preview = previewed(plan)
    assert [(each.id, each.caption) for each in preview.captions] == [*plan.sample.captions]
    for caption in preview.captions:
        assert [*caption.draws] == ["cleaned", "crowd"]
        for draws in caption.draws.values():
            assert {draw.slot for draw in draws} == {0, 1}
            for slot in (0, 1):
                *refused, last = [draw for draw in draws if draw.slot == slot]
                assert [draw.attempt for draw in (*refused, last)] == [*range(len(refused) + 1)]
                assert all(draw.reason is not None for draw in refused)
                assert last.reason is None or len(refused) == useful_redraws(plan.rewrite)


def test_the_engines_requests_and_tokens_are_counted(tmp_path: Path) -> None:
    engine = RandomEngine(Random(1))
    preview = previewed(planned(tmp_path), engine)
    total = total_work(preview.work)
    assert total.requests == len(engine.prompts)
    assert {name: getattr(total, name) for name in engine.tokens} == dict(engine.tokens)


def test_a_request_that_fails_is_the_outcome_of_its_caption(tmp_path: Path) -> None:
    write_lines(tmp_path, ["a red dog", UNANSWERED])
    preview = previewed(planned(tmp_path))
    (failed,) = [caption for caption in preview.captions if caption.caption == UNANSWERED]
    assert {(draw.text, draw.reason) for draws in failed.draws.values() for draw in draws} == {
        (None, "prompt_too_long")
    }


def test_scores_of_the_meaning_gate_are_kept_with_the_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview_module, "local_meaning_gate", lambda _: meaning_gate(min_faithfulness=0.7))
    draws = [
        draw
        for caption in previewed(planned(tmp_path)).captions
        for of_set in caption.draws.values()
        for draw in of_set
    ]
    for draw in draws:
        if draw.reason in (None, "meaning_lost", "meaning_added"):
            assert {"meaning", "added"} <= {*draw.scores}
    assert {"meaning_lost"} <= {draw.reason for draw in draws}


def test_an_encoder_that_fails_leaves_the_preview_incomplete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(FakeEncoders):
        async def score(self, pairs: Sequence[Pair]) -> list[MeaningScores]:
            raise RuntimeError("no memory")

    gate = meaning_gate()
    monkeypatch.setattr(
        preview_module, "local_meaning_gate", lambda _: MeaningGate(gate.config, gate.scorers, Failing())
    )
    plan = planned(tmp_path)
    monkeypatch.setattr(preview_module, "_start_encoder", lambda _: MeaningGate(gate.config, gate.scorers, Failing()))
    with pytest.raises(IncompleteError, match=r"^rewrite\.gate\.meaning: the encoder gave no scores \(.*no memory\)"):
        previewed(plan)


def test_nothing_is_written(tmp_path: Path) -> None:
    previewed(planned(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        (
            ClosingEngine,
            IncompleteError,
            r"^the engine died while it rewrote the sample \(.*another --seed draws others",
        ),
        (InterruptedEngine, KeyboardInterrupt, "^$"),
    ],
)
@case(
    "How a run ends",
    "an engine that dies in `laclip rewrites preview`, or Ctrl-C",
    "the engine is closed; the message says how to go on",
    "3; 130",
)
def test_the_engine_is_closed_however_the_preview_ends(
    tmp_path: Path, kind: type[ClosingEngine], error: type[BaseException], message: str
) -> None:
    write_lines(tmp_path, ["a red dog", DEADLY])
    plan, engine = planned(tmp_path), kind(Random(0))
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore SIGINT
    try:
        with pytest.raises(error, match=message):
            previewed(plan, engine)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert engine.is_closed


def test_an_engine_that_does_not_start_leaves_the_preview_incomplete(tmp_path: Path) -> None:
    def fail(*_: Any) -> RandomEngine:
        raise EngineStartError("no memory")

    with pytest.raises(IncompleteError, match="no memory"):
        run_preview(planned(tmp_path), fail)


# --- the forecast


def test_the_forecast_extends_the_sample_to_all_captions(tmp_path: Path) -> None:
    plan = planned(tmp_path, prices=write_prices(tmp_path))
    preview = replace(previewed(plan), rewriting_s=36.0)
    expected = forecast(plan, preview)
    assert (expected.captions, expected.captions_are_counted, expected.to_rewrite) == (80, True, 80)
    for of_all in expected.sets:
        work = preview.work[of_all.prompt_set]
        assert of_all.requests == round(work.requests * 80 / 12)
        assert of_all.output_tokens == round(work.output_tokens * 80 / 12)
    assert not expected.costs_are_measured
    assert [cost.name for cost in expected.costs] == ["big", "small"]


def test_the_time_for_the_sample_itself_is_the_time_it_took(tmp_path: Path) -> None:
    plan = planned(tmp_path, captions=80, prices=write_prices(tmp_path))
    preview = replace(previewed(plan), rewriting_s=36.0)
    cached = {tokens.prompt_set: tokens.cached_tokens for tokens in forecast(plan, preview).sets}
    as_expected = {name: replace(work, cached_tokens=cached[name]) for name, work in preview.work.items()}
    assert forecast(plan, replace(preview, work=as_expected)).engine_hours == pytest.approx(36.0 / 3_600)


def test_a_prompt_set_is_extended_with_the_cached_share_of_a_long_run() -> None:
    work = EngineWork("", requests=60, prompt_tokens=9_000, cached_tokens=500, output_tokens=1_200)
    expected = SetTokens("cleaned", 1, prompt_tokens=200, cached_tokens=150, output_tokens=1, expansion=1.5)
    assert extend(work, 100.0, expected) == SetTokens("cleaned", 6_000, 900_000, 675_000, 120_000, 1.5)


def test_a_run_of_few_captions_finds_as_much_in_the_cache_as_the_preview() -> None:
    work = EngineWork("", requests=19, prompt_tokens=3_000, cached_tokens=1_800, output_tokens=200)
    expected = SetTokens("cleaned", 11, 2_000, 0, 150, 1.5)
    assert extend(work, 1.0, expected).cached_tokens == 1_800


def test_the_notes_say_what_a_preview_does_not_do(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    gate = {"picture": {"model": "RN50"}}
    with_picture = replace(plan, rewrite=RewriteConfig(**{**plan.rewrite.model_dump(), "gate": gate}))
    assert "rewrite.gate.picture" in " ".join(forecast(with_picture, previewed(plan)).notes)
    assert "rewrite.gate.picture" not in " ".join(forecast(plan, previewed(plan)).notes)


# --- the place of the page


def test_the_page_is_below_the_output_or_where_the_user_says(tmp_path: Path) -> None:
    assert check_page(str(tmp_path / "out"), None, []) == f"{tmp_path}/out/preview.html"
    assert check_page(str(tmp_path / "out"), f"{tmp_path}/a/b.html", []) == f"{tmp_path}/a/b.html"
    assert check_page(str(tmp_path / "out"), "b.html", []) == "b.html"
    with pytest.raises(UserError, match="is a directory"):
        check_page(str(tmp_path / "out"), str(tmp_path), [])


# --- batches of scores


class SlowEncoders(FakeEncoders):
    """Counts the calls, and fails on a word."""

    calls = 0

    def score_now(self, pairs: Sequence[Pair]) -> list[MeaningScores]:
        self.calls += 1
        if any("broken" in text for pair in pairs for text in pair):
            raise RuntimeError("no scores")
        return super().score_now(pairs)


def test_requests_of_the_same_moment_are_scored_together_each_with_its_own_scores() -> None:
    encoders = SlowEncoders()
    requests = [[("a red dog", f"a dog {number}"), ("a cup", f"cup {number}")] for number in range(20)]

    async def score() -> list[list[MeaningScores]]:
        batched = BatchedEncoders(encoders)
        return await asyncio.gather(*map(batched.score, requests))

    found = asyncio.run(score())
    assert encoders.calls == 1
    assert found == [FakeEncoders().score_now(pairs) for pairs in requests]


def test_an_error_of_the_encoder_reaches_every_request_of_its_batch() -> None:
    async def score() -> list[Any]:
        batched = BatchedEncoders(SlowEncoders())
        failed = await asyncio.gather(
            batched.score([("a", "b")]), batched.score([("a", "broken")]), return_exceptions=True
        )
        return [*failed, await batched.score([("a", "a")])]

    *failed, later = asyncio.run(score())
    assert [str(error) for error in failed] == ["no scores", "no scores"]
    assert later[0].meaning == pytest.approx(1.0)
