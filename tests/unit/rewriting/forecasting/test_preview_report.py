"""The page and the tables of a preview: every number is right, and texts from data stay text."""

import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from laclip_ray.cli.preview import print_preview
from laclip_ray.reporting.preview_page import PreviewPage, render_preview
from laclip_ray.rewriting.engines.work import EngineWork
from laclip_ray.rewriting.forecasting.estimate import Cost
from laclip_ray.rewriting.forecasting.preview import Preview, PreviewDraw, PreviewedCaption, PreviewPlan
from laclip_ray.rewriting.forecasting.preview_forecast import Forecast
from laclip_ray.rewriting.forecasting.preview_outcome import Outcome, advice, outcome_of, outcomes_of
from laclip_ray.rewriting.forecasting.preview_report import figures, preview_page
from laclip_ray.rewriting.forecasting.token_counts import CaptionSample, SetTokens
from laclip_ray.rewriting.prompting.prompts import load_prompt_set
from tests.unit.reporting.test_report import HOSTILE, Page
from tests.unit.rewriting.heads_of import completion_heads
from tests.unit.rewriting.priced_data import experiment

CONTROL = "a\x1b[2J\x07\r\u202e:dog: [bold]b"
SETS = ("cleaned", "crowd")
REASONS = ("meaning_lost", "near_copy", "truncated")


def draw(slot: int, attempt: int, reason: str | None, text: str | None = "a dog") -> PreviewDraw:
    return PreviewDraw(slot, attempt, text, reason, {"meaning": 0.875, "log_probability": -1.5})


def caption(draws: Mapping[str, Sequence[PreviewDraw]], text: str = "a red dog") -> PreviewedCaption:
    return PreviewedCaption("id", text, "shard", {name: tuple(of_set) for name, of_set in draws.items()})


def draws_of(outcomes: Sequence[Sequence[str | None]]) -> list[PreviewDraw]:
    """The draws of each slot, by the reason of each attempt."""
    return [
        draw(slot, attempt, reason) for slot, reasons in enumerate(outcomes) for attempt, reason in enumerate(reasons)
    ]


GOOD = draws_of([[None]])
REDRAWN = draws_of([["near_copy", None]])
LOST = draws_of([["near_copy", "meaning_lost"]])


def preview_of(captions: Sequence[PreviewedCaption]) -> Preview:
    """A preview of ten seconds, with 120 tokens written for each prompt set."""
    sample = CaptionSample(
        shards=2, rows=1_000, distinct=900, captions=tuple((each.id, each.caption) for each in captions),
        shard_names=("shard",) * len(captions), listed_rows=1_000, not_rewritten={"caption_empty": 40},
    )  # fmt: skip
    work = {name: EngineWork("", None, 0, 0, 6, 1_000, 250, 120) for name in SETS}
    return Preview(sample, tuple(captions), work, 10.0, 30.0, 0.0, "2 x a processor")


def plan_of(preview: Preview, tmp_path: Path) -> PreviewPlan:
    rewrite = experiment(tmp_path).rewrite
    prompt_sets = {name: load_prompt_set(name) for name in SETS}
    heads = {name: completion_heads(prompt_set, 2, 0) for name, prompt_set in prompt_sets.items()}
    return PreviewPlan(rewrite, 0, (), preview.sample, prompt_sets, heads, {})


def forecast_of(*costs: Cost, is_measured: bool = True) -> Forecast:
    sets = tuple(SetTokens(name, 1_800, 300_000, 200_000, 36_000, 1.0) for name in SETS)
    return Forecast(1_000, True, 900, sets, 0.625, 50.0, costs, "EUR", is_measured, ("a note on `laclip estimate`",))


ONE_COST = Cost("mine", "BIG", 12.5, 100.0, True)


def page_of(preview: Preview, tmp_path: Path, *costs: Cost) -> PreviewPage:
    return preview_page("test", plan_of(preview, tmp_path), preview, forecast_of(*(costs or (ONE_COST,))))


# --- outcomes


@given(
    st.lists(st.lists(st.lists(st.sampled_from(REASONS), max_size=2), min_size=1, max_size=3), max_size=4), st.data()
)
def test_each_slot_is_accepted_or_missing_once_and_each_draw_is_counted(
    refusals: list[list[list[str]]], data: st.DataObject
) -> None:
    captions = []
    for slots in refusals:
        ends = [data.draw(st.booleans()) or not reasons for reasons in slots]
        outcomes = [[*reasons, *([None] if end else [])] for reasons, end in zip(slots, ends, strict=True)]
        captions.append(caption({"cleaned": draws_of(outcomes)}))
    outcome = outcome_of(captions)
    assert outcome.slots == outcome.accepted + outcome.missing.total() == sum(map(len, refusals))
    assert outcome.texts == outcome.accepted + outcome.refused.total()
    assert outcome.captions == len(refusals)
    assert 0.0 <= outcome.interval.low <= outcome.interval.high <= 1.0


def test_outcomes_are_those_of_each_prompt_set_and_a_redraw_counts_for_its_slot() -> None:
    outcomes = outcomes_of(
        [caption({"cleaned": GOOD, "crowd": LOST}), caption({"cleaned": REDRAWN, "crowd": LOST})], SETS
    )
    assert (outcomes["cleaned"].share, outcomes["crowd"].share) == (1.0, 0.0)
    assert outcomes["cleaned"].refused == Counter(near_copy=1)
    assert outcomes["crowd"].refused == Counter(near_copy=2, meaning_lost=2)
    assert outcomes["crowd"].missing == Counter(meaning_lost=2)


def test_the_rewrites_of_a_caption_do_not_make_the_interval_narrower() -> None:
    one = Outcome(captions=50, slots=50, accepted=30)
    four = Outcome(captions=50, slots=200, accepted=120)
    assert (one.interval.low, one.interval.high) == (four.interval.low, four.interval.high)
    assert one.interval.low < 0.6 < one.interval.high


# --- advice


def test_the_advice_names_the_poor_sets_the_reason_and_what_to_do() -> None:
    good, poor = caption({"cleaned": GOOD, "crowd": GOOD}), caption({"cleaned": GOOD, "crowd": LOST})
    assert advice(outcomes_of([good, good], SETS)) is None
    assert advice(outcomes_of([good, poor], SETS)) is None  # half is not under half
    found = advice(outcomes_of([poor, poor, good], SETS))
    assert found is not None
    assert "crowd 33%" in found
    assert "cleaned" not in found
    assert "meaning_lost (2 of 2): a larger rewrite.model" in found
    assert "leave these sets out of rewrite.prompt_sets" in found


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        ("near_copy", "rewrite.sampling.temperature"),
        ("truncated", "rewrite.sampling.max_tokens"),
        ("chat_phrase", "rewrite.mode"),
        ("prompt_too_long", "rewrite.engine.args.max_model_len"),
        ("numbers_lost", "rewrite.gate"),
        ("a reason of tomorrow", "rewrite.model"),
    ],
)
def test_each_reason_has_a_remedy_that_names_a_setting(reason: str, remedy: str) -> None:
    found = advice(outcomes_of([caption({"cleaned": draws_of([[reason]])})], ["cleaned"]))
    assert found is not None
    assert remedy in found.partition(": ")[2]


# --- the page


def test_the_page_has_each_caption_with_each_draw_its_reason_and_its_scores(tmp_path: Path) -> None:
    captions = [
        caption({"cleaned": GOOD, "crowd": REDRAWN}, "a red dog"),
        caption({"cleaned": LOST, "crowd": [draw(0, 0, "request_failed", None)]}, "two cats"),
    ]
    page = Page(render_preview(page_of(preview_of(captions), tmp_path)))
    assert [text for text in page.inside("bdi") if text in ("a red dog", "two cats")] == ["a red dog", "two cats"]
    assert len(page.all("article")) == 2
    shown = [attributes["class"] for attributes in page.all("li") if "class" in attributes]
    assert shown == ["accepted", "refused", "accepted", "refused", "refused", "refused"]
    spans = page.inside("span")
    assert "no text" in spans
    assert spans.count("meaning 0.88") == spans.count("log p -1.50") == 6
    assert spans.count("drawn again") == 2
    reasons = [text.removeprefix("refused: ") for text in page.inside("bdi") if text.startswith("refused: ")]
    assert Counter(reasons) == {"near_copy": 2, "meaning_lost": 1, "request_failed": 1}


def test_the_page_has_the_pictures_of_the_captions_and_says_what_is_missing(tmp_path: Path) -> None:
    preview = preview_of([caption({"cleaned": GOOD, "crowd": GOOD}, text) for text in ("a red dog", "two cats")])
    pictures = {preview.captions[0].key: b"\xff\xd8\xff rest"}
    content = preview_page(
        "test", plan_of(preview, tmp_path), preview, forecast_of(ONE_COST), pictures, ["one picture is elsewhere"]
    )
    page = Page(render_preview(content))
    (image,) = page.all("img")
    assert (image["src"] or "").startswith("data:image/jpeg;base64,")
    assert "one picture is elsewhere" in page.inside("li")


def test_the_page_has_the_numbers_of_the_preview_and_of_the_whole_dataset(tmp_path: Path) -> None:
    preview = preview_of([caption({"cleaned": GOOD, "crowd": LOST})] * 3 + [caption({"cleaned": LOST, "crowd": LOST})])
    found = figures(plan_of(preview, tmp_path), preview, forecast_of(ONE_COST))
    assert found == {
        "captions to rewrite": "900 of 1,000",
        "rewrites accepted here": "38% (15 to 85), 3 of 8",
        "speed of one engine": "24 tokens/s, 0.8 rewrites/s",
        "prompt tokens from the cache": "25% here, 62% in a run",
        "time for all, one engine": "2.1 days",
        "GPU-hours for all, at this rate": "12.50",
        "cost of all, at this rate": "100.00 EUR (mine)",
        "cost of a thousand accepted": "148.1481 EUR",
    }
    text = render_preview(page_of(preview, tmp_path))
    page = Page(text)
    for value in found.values():
        assert value in page.inside("dd")
    assert [*map(str.strip, page.inside("div"))][:3] == ["75%", "0%", "38%"]
    assert "width: 75.00%" in text
    cells = page.cells()
    for number in ("1,000", "120", "1,800", "300,000", "36,000", "25%"):
        assert number in cells
    assert "Samples without a caption to rewrite: 40 (caption_empty 40)" in text
    assert "a note on laclip estimate" in text


def test_several_prices_are_a_table(tmp_path: Path) -> None:
    costs = (replace(ONE_COST, name="big"), replace(ONE_COST, name="small", gpu_hours=1.25, money=None, fits=False))
    cells = Page(render_preview(page_of(preview_of([caption({"cleaned": GOOD, "crowd": GOOD})]), tmp_path, *costs)))
    assert {"12.50", "100.00", "1.25", "no price set", "BIG (does not fit)"} <= {*cells.cells()}


def test_sums_that_do_not_count_are_no_table(tmp_path: Path) -> None:
    preview = preview_of([caption({"cleaned": GOOD, "crowd": GOOD})])
    costs = (replace(ONE_COST, money=0.004), replace(ONE_COST, name="other", money=0.0))
    found = figures(plan_of(preview, tmp_path), preview, forecast_of(*costs))
    assert found["cost of all, at any price of the list"] == "under 0.01 EUR"
    assert "Cost of rewriting all captions" not in render_preview(page_of(preview, tmp_path, *costs))


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_from_data_stay_text(tmp_path: Path, text: str) -> None:
    hostile = PreviewDraw(0, 0, text, text, {"meaning": 0.5})
    draws = {"cleaned": (hostile,), "crowd": (draw(0, 0, None, text),)}
    preview = preview_of([PreviewedCaption(text, text, text, draws)])
    preview = replace(preview, hardware=text)
    html = render_preview(replace(page_of(preview, tmp_path), title=text, advice=text, notes=[text]))
    page = Page(html)
    shown = [each for _, each in page.texts]
    assert sum(text in each for each in shown) >= 10
    assert {tag for tag, _ in page.elements} & {"img", "svg"} == set()
    assert html.count("<script") == 1  # the filter, which the content policy lets run by its hash
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert (html.count("<style>"), html.count("</style>")) == (1, 1)


def test_the_page_loads_nothing_and_has_both_themes_and_a_viewport(tmp_path: Path) -> None:
    html = render_preview(page_of(preview_of([caption({"cleaned": GOOD, "crowd": GOOD})]), tmp_path))
    page = Page(html)
    assert "default-src 'none'" in html
    assert not re.findall(r"(?:src|href)=\"(?!#)", html)
    assert not re.findall(r"url\(|@import", html)
    assert "(prefers-color-scheme: dark)" in html
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")
    anchors = {attributes["href"] for attributes in page.all("a")}
    assert anchors == {f"#{attributes['id']}" for attributes in page.all("h2")}


def test_a_secret_in_a_setting_is_not_on_the_page(tmp_path: Path) -> None:
    preview = preview_of([caption({"cleaned": GOOD, "crowd": GOOD})])
    plan = plan_of(preview, tmp_path)
    secret = "hf_" + "a" * 34
    plan = replace(plan, rewrite=plan.rewrite.model_copy(update={"model": f"https://user:{secret}@host/model"}))
    assert secret not in render_preview(preview_page("test", plan, preview, forecast_of(ONE_COST)))


# --- the terminal


def test_the_terminal_shows_texts_from_data_escaped(tmp_path: Path) -> None:
    hostile = PreviewDraw(0, 0, CONTROL, CONTROL, {"meaning": 0.5})
    draws = {"cleaned": (hostile,), "crowd": tuple(LOST)}
    preview = preview_of([PreviewedCaption(CONTROL, CONTROL, CONTROL, draws)])
    console = Console(file=io.StringIO(), width=400, force_terminal=False)
    costs = (ONE_COST, replace(ONE_COST, name="other"))
    print_preview(console, plan_of(preview, tmp_path), preview, forecast_of(*costs))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert text.count("a\\x1b[2J\\x07\\r\\u202e:dog: [bold]b") >= 4
    assert not {*"\x1b\x07\r\u202e"} & {*text}
    for shown in ("meaning_lost", "meaning 0.88", "0 of 2", "Under half", "900 of 1,000", "other", "a note on"):
        assert shown in text
