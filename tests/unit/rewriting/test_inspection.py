"""Counts cover all shards of a set, and samples depend on the seed and the ids alone."""

import csv
import io
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from rich.console import Console

from laclip_ray.config import Experiment, parse_experiment, with_overrides
from laclip_ray.console import print_inspection
from laclip_ray.data.records import hash_caption
from laclip_ray.errors import UserError
from laclip_ray.rewriting import inspection, tables
from laclip_ray.rewriting.inspection import ACCEPTED, Inspection, inspect_rewrites
from laclip_ray.rewriting.judging.gate import Rejection
from laclip_ray.rewriting.storing import store
from laclip_ray.rewriting.storing.sets import SetSelection, readable_sets
from laclip_ray.rewriting.transfer.import_texts import import_rewrites

SHARDS, ROWS_PER_SHARD = 12, 4


def text_of(row: int, name: str) -> str:
    """Of every four rows one is empty and one too short; the last row of all is unrelated to its caption."""
    if row == SHARDS * ROWS_PER_SHARD - 1:
        return f"something else entirely {row}"
    return ["", "short", f"a dog {row}, {name}", f"dog [red] {row}"][row % 4]


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    """Two imported sets over twelve shards."""
    rows = [(f"{row}.jpg", f"dog [/i] {row}") for row in range(SHARDS * ROWS_PER_SHARD)]
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    captions = tmp_path / "captions.csv"
    captions.write_text(buffer.getvalue())
    texts = []
    for name in ("one", "two"):
        texts.append(tmp_path / f"{name}.txt")
        texts[-1].write_text("".join(f"{text_of(row, name)}\n" for row in range(len(rows))))
    data = {"path": str(captions), "columns": ["path", "caption"], "image_column": "path"}
    loaded = parse_experiment(
        {
            "name": "test",
            "output": str(tmp_path / "out"),
            "data": {**data, "max_rows_per_shard": ROWS_PER_SHARD},
            "rewrite": {"gate": {"drop_changed_placeholders": False, "meaning": None}},
        }
    )
    imported = import_rewrites(loaded, str(captions), [str(path) for path in texts])
    return with_overrides(loaded, {"text.rewrites": list(imported.locations.values())})


def printed(result: Inspection) -> str:
    console = Console(file=io.StringIO(), width=120)
    print_inspection(console, result)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_every_committed_shard_is_counted_and_a_few_are_read(experiment: Experiment) -> None:
    result = inspect_rewrites(experiment, samples=3)
    assert result.shards == {"one": SHARDS, "two": SHARDS}
    for counts in result.statistics.values():
        assert counts.captions == SHARDS * ROWS_PER_SHARD
        assert counts.accepted == 2 * SHARDS - 1
        assert counts.rejected == {Rejection.EMPTY: SHARDS, Rejection.TOO_SHORT: SHARDS, Rejection.UNRELATED: 1}
    # Eight per set, and one more if these eight lack the only unrelated rewrite.
    assert 16 <= result.shards_read <= 18
    reasons = Counter(shown.reason for shown in result.shown)
    assert reasons == {ACCEPTED: 3, Rejection.EMPTY: 3, Rejection.TOO_SHORT: 3, Rejection.UNRELATED: 2}


def test_shown_draws_are_draws_of_the_sets(experiment: Experiment) -> None:
    rows = {
        (rewrite_set.name, row["id"]): (row["caption"], row["text"], row["reason"] or ACCEPTED)
        for rewrite_set in readable_sets(SetSelection.of(experiment))
        for shard, revision in rewrite_set.committed_revisions().items()
        for row in rewrite_set.read(shard, revision).to_pylist()
    }
    result = inspect_rewrites(experiment)
    assert len(result.shown) == 32
    for shown in result.shown:
        assert (shown.caption, shown.text, shown.reason) == rows[shown.rewrite_set, shown.id]


@pytest.mark.parametrize("shards", [1, SHARDS])
def test_samples_are_a_function_of_the_seed(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, shards: int
) -> None:
    monkeypatch.setattr(inspection, "_SHARDS_READ", shards)
    assert inspect_rewrites(experiment, seed=1, samples=1) == inspect_rewrites(experiment, seed=1, samples=1)
    shown = [inspect_rewrites(experiment, seed=seed, samples=1, reasons=[ACCEPTED]).shown for seed in range(5)]
    assert len({draw.id for (draw,) in shown}) > 1


def test_reasons_and_sets_can_be_chosen(experiment: Experiment) -> None:
    result = inspect_rewrites(experiment, reasons=[Rejection.UNRELATED], names=["two"])
    assert [(shown.rewrite_set, shown.id, shown.reason) for shown in result.shown] == [
        ("two", f"{SHARDS * ROWS_PER_SHARD - 1}.jpg", Rejection.UNRELATED)
    ]
    assert result.shards_read == 1
    assert {shown.reason for shown in inspect_rewrites(experiment, reasons=[ACCEPTED]).shown} == {ACCEPTED}
    assert inspect_rewrites(experiment, reasons=[Rejection.REFUSAL]).shown == []
    with pytest.raises(UserError, match="unknown rude; known are accepted, nothing_to_rewrite, empty, "):
        inspect_rewrites(experiment, reasons=["rude"])
    with pytest.raises(UserError, match="no rewrite set three here; the sets are one, two"):
        inspect_rewrites(experiment, names=["three"])


def test_texts_are_printed_as_they_are_with_the_counts(experiment: Experiment) -> None:
    text = printed(inspect_rewrites(experiment, samples=2))
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]
    assert ["accepted", "23", "23"] in lines
    assert [Rejection.TOO_SHORT, "12", "12"] in lines
    assert "dog [/i]" in text
    assert "=> something else entirely" in text


def test_changed_rows_are_seen_in_the_shards_that_are_read(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert inspect_rewrites(experiment).changed == {}
    captions = tmp_path / "captions.csv"
    captions.write_text(captions.read_text().replace("dog [/i] 5\n", "cat [/i] 5\n"))
    monkeypatch.setattr(inspection, "_SHARDS_READ", SHARDS)
    result = inspect_rewrites(experiment)
    assert result.changed == {"one/captions.csv.000000004": 1, "two/captions.csv.000000004": 1}
    assert "captions.csv.000000004: its rows have changed" in printed(result)


def test_sets_can_be_inspected_without_their_data(experiment: Experiment, tmp_path: Path) -> None:
    (tmp_path / "captions.csv").unlink()
    result = inspect_rewrites(experiment, samples=1)
    assert (len(result.shown), result.changed) == (4, {})
    assert "was not checked" in printed(result)


def test_a_caption_without_a_draw_is_shown_without_a_text(experiment: Experiment) -> None:
    sample_id, caption = "extra.jpg", "an extra"
    row = {
        "id": sample_id, "caption_hash": hash_caption(caption), "caption": caption, "problems": "", "draw": 0,
        "attempt": 0, "head": None, "outcome": tables.CAPTION_TOO_LONG, "text": None, "truncated": False,
        **dict.fromkeys(tables.TOKENS, 0),
    }  # fmt: skip
    rewrite_set = readable_sets(SetSelection.of(experiment))[0]
    draws = pa.Table.from_pylist([row], schema=tables.DRAWS_SCHEMA)
    origin = tables.Origin("", "", 1)
    store.write_draws(rewrite_set, "extra", 0, draws, origin)
    store.commit_verdicts(rewrite_set, "extra", 0, draws, pa.array([tables.CAPTION_TOO_LONG]), origin)
    result = inspect_rewrites(experiment, reasons=[tables.CAPTION_TOO_LONG])
    assert [(shown.id, shown.text) for shown in result.shown] == [(sample_id, None)]
    assert result.changed == {"one/extra": 0}  # the data has no such shard


def test_missing_unjudged_and_equally_named_sets_are_refused(experiment: Experiment, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no rewrite set at .*/crowd"):
        readable_sets(
            SetSelection.of(with_overrides(experiment, {"text.rewrites": None, "rewrite.prompt_sets": ["crowd"]}))
        )
    with pytest.raises(UserError, match="12 shards have rewrites, but no verdicts of this gate"):
        readable_sets(SetSelection.of(with_overrides(experiment, {"rewrite.gate.min_words": 9})))
    locations = experiment.text.rewrites or []
    with pytest.raises(UserError, match="more than one set is named one"):
        readable_sets(
            SetSelection.of(with_overrides(experiment, {"text.rewrites": [locations[0], str(tmp_path / "one")]}))
        )


def test_the_scores_of_accepted_draws_are_summarised(experiment: Experiment) -> None:
    assert "scores of accepted draws" not in printed(inspect_rewrites(experiment))
    for rewrite_set in readable_sets(SetSelection.of(experiment)):
        for name, revision in rewrite_set.committed_revisions().items():
            draws, origin = rewrite_set.read_draws(name, revision), rewrite_set.origin(name, revision)
            reasons = rewrite_set.read(name, revision).column("reason").combine_chunks()
            scores = {"meaning": pa.array([0.25] * draws.num_rows, pa.float32())}
            store.commit_verdicts(rewrite_set, name, revision, draws, reasons, origin, scores, {"meaning": "encoder"})
    result = inspect_rewrites(experiment)
    assert result.scores == {name: {"meaning": (0.25, 0.25, 0.25)} for name in ("one", "two")}
    assert "0.25  0.25  0.25" in printed(result)
