"""After any change of the data or of its reading, exactly the changed captions are drawn again."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from laclip_ray import storage
from laclip_ray.config import Experiment, parse_experiment, with_overrides
from laclip_ray.data.shards import read_samples
from laclip_ray.rewriting.draws import merge_draws
from laclip_ray.rewriting.running import changes
from laclip_ray.rewriting.running.backlog import Backlog, find_backlog
from laclip_ray.rewriting.running.changes import compare_replaced_files
from laclip_ray.rewriting.running.stages import ReadShard, shard_row
from laclip_ray.rewriting.storing import store
from laclip_ray.rewriting.storing.earlier_draws import read_earlier_draws
from laclip_ray.rewriting.storing.sets import SetSelection, configured_sets
from laclip_ray.rewriting.tables import Origin, WorkUnit, origin_of, table_from_bytes
from tests.cases import case
from tests.unit.rewriting.rounds import slots_to_draw
from tests.unit.rewriting.shards import Draw, table_of

ROWS = 4


@pytest.fixture(autouse=True)
def _read_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards are read in this process instead of in Ray's tasks."""

    def read(shards: Any, data: Any) -> Any:
        return ((shard, changes._read(shard, data)) for shard in shards)

    monkeypatch.setattr(changes, "_read_shards", read)


@pytest.fixture
def rewritten(tmp_path: Path) -> Experiment:
    """One JSON lines file of four captions with images' paths, rewritten without `image_column`."""
    rows = [
        {"caption": f"caption {row}", "title": f"title {row}", "image": f"{row}.jpg", "key": f"key {row}"}
        for row in range(ROWS)
    ]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    experiment = parse_experiment(
        {
            "name": "changes",
            "output": str(tmp_path / "out"),
            "data": {"path": str(tmp_path / "data.jsonl")},
            "rewrite": {"model": "demo-rewriter", "prompt_sets": ["cleaned"], "gate": {"max_context_tokens": None}},
        }
    )
    draw(find_backlog(experiment))
    return experiment


def draw(backlog: Backlog) -> None:
    """Do what the reading task asks for, with a text that names the caption, and commit it as the last task does."""
    rewrite_set = backlog.sets["cleaned"]
    store.open_for_writing(rewrite_set.location, _recipe(backlog), rewrite_set.gate, "rewrite.output")
    for unit in backlog.to_draw:
        row = _row(backlog, unit)
        samples = table_from_bytes(row["samples"])
        new = [
            Draw(sample["id"], sample["caption"], f"rewrite of {sample['caption']}", slot=slot)
            for sample, slots in zip(samples.to_pylist(), slots_to_draw(samples), strict=True)
            for slot in slots
        ]
        before = read_earlier_draws(unit, samples.to_pydict(), rewrite_set.read_draws)
        draws = table_of(new) if before is None else merge_draws(samples, before, table_of(new))
        store.write_draws(rewrite_set, unit.shard, unit.revision, draws, origin_of(row))
        reasons = pa.nulls(draws.num_rows, pa.string())
        store.commit_verdicts(rewrite_set, unit.shard, unit.revision, draws, reasons, origin_of(row))


def _recipe(backlog: Backlog) -> dict[str, Any]:
    from laclip_ray.rewriting.recipe import build_recipe

    experiment = backlog.experiment
    return build_recipe(experiment.rewrite, backlog.prompt_sets["cleaned"], experiment.seed, backlog.heads["cleaned"])


def _row(backlog: Backlog, unit: WorkUnit) -> dict[str, Any]:
    """The stream row that the reading task makes of a unit."""
    experiment = backlog.experiment
    task = ReadShard(experiment.data, experiment.rewrite, experiment.seed, backlog.sets, backlog.gates)
    item = {name: [value] for name, value in shard_row(backlog.shards[unit.shard], [unit]).items()}
    (table,) = task(pa.table(item))
    (row,) = table.to_pylist()
    assert row["failure"] is None
    return dict(row)


def compared(experiment: Experiment) -> Backlog:
    """The backlog after the comparison."""
    backlog = find_backlog(experiment)
    compare_replaced_files(backlog, lambda shard, accepted: None)
    return backlog


def drawn_samples(backlog: Backlog) -> dict[str, list[bool]]:
    """By shard to draw, which of its samples need a draw."""
    return {
        unit.shard: [bool(slots) for slots in slots_to_draw(table_from_bytes(_row(backlog, unit)["samples"]))]
        for unit in backlog.to_draw
    }


def found(experiment: Experiment) -> int:
    """Samples of the data whose rewrites training finds."""
    rewrites = configured_sets(SetSelection.of(experiment))
    count = 0
    for shard in find_backlog(experiment).shards.values():
        of_shard = rewrites.rewrites(shard.name)
        for sample in read_samples(shard, experiment.data, with_images=False):
            texts = of_shard.of(sample.id, sample.caption_hash, sample.row) if of_shard is not None else None
            count += texts is not None and list(texts.texts) == [f"rewrite of {sample.caption}"]
    return count


ALL = {"data.jsonl": [True] * ROWS}


@pytest.mark.parametrize(
    ("settings", "to_draw"),
    [
        pytest.param(
            {"data.image_column": "image"},
            {},
            marks=case("Identity", "`data.image_column` set after rewriting", "no caption is drawn again"),
        ),
        pytest.param(
            {"data.id_column": "key"},
            {},
            marks=case("Identity", "`data.id_column` set after rewriting", "no caption is drawn again"),
        ),
        pytest.param(
            {"data.caption_column": "title"},
            ALL,
            marks=case("Identity", "`data.caption_column` changed after rewriting", "the new captions are rewritten"),
        ),
        pytest.param(
            {"data.caption_column": "title", "data.id_column": "key"},
            ALL,
            marks=case("Identity", "caption and id columns changed at once", "the new captions are rewritten"),
        ),
        pytest.param(
            {"data.max_rows_per_shard": 2},
            {"data.jsonl": [False, False], "data.jsonl.000000002": [False, False]},
            marks=case(
                "Identity",
                "`data.max_rows_per_shard` lowered after rewriting",
                "every row keeps its rewrites, in its new shard",
            ),
        ),
        pytest.param({"data.format": "jsonl"}, None, id="the format named"),
        pytest.param({"data.captions": "all"}, {}, id="a choice without lists"),
        pytest.param({"data.image_root": "elsewhere", "data.max_pixels": 5}, None, id="settings of images"),
    ],
)
def test_changed_settings_lead_to_exactly_the_draws_that_are_missing(
    rewritten: Experiment, settings: dict[str, Any], to_draw: dict[str, list[bool]] | None
) -> None:
    assert find_backlog(rewritten).units == []
    changed = with_overrides(rewritten, settings)
    assert bool(find_backlog(changed).units) == (to_draw is not None)
    backlog = compared(changed)
    assert drawn_samples(backlog) == (to_draw or {})
    draw(backlog)
    # Now everything is done, with these settings and with the ones before.
    assert find_backlog(changed).units == []
    assert found(changed) == ROWS


def test_settings_that_change_back_and_forth_end_with_every_rewrite(rewritten: Experiment) -> None:
    changed = with_overrides(rewritten, {"data.image_column": "image"})
    for experiment in (changed, rewritten, changed):
        backlog = compared(experiment)
        assert backlog.units == []
        assert find_backlog(experiment).units == []
        assert found(experiment) == ROWS


@case("Identity", "`data.max_rows_per_shard` raised after rewriting", "every row keeps its rewrites, in its new shard")
def test_larger_shards_keep_the_rewrites_of_smaller_ones(rewritten: Experiment) -> None:
    small = with_overrides(rewritten, {"data.max_rows_per_shard": 2, "output": f"{rewritten.output}2"})
    draw(find_backlog(small))
    large = with_overrides(small, {"data.max_rows_per_shard": 4})
    backlog = compared(large)
    assert drawn_samples(backlog) == {"data.jsonl": [False] * ROWS}
    draw(backlog)
    assert found(large) == ROWS


def test_ranges_that_overlap_in_any_way_keep_their_rewrites(rewritten: Experiment) -> None:
    for rows in (3, 1, 2, 4, 3):
        cut = with_overrides(rewritten, {"data.max_rows_per_shard": rows})
        backlog = compared(cut)
        assert not any(any(needed) for needed in drawn_samples(backlog).values())
        draw(backlog)
        assert find_backlog(cut).units == []
        assert found(cut) == ROWS


def test_more_rewrites_under_new_ids_keep_the_ones_that_exist(rewritten: Experiment) -> None:
    changed = with_overrides(rewritten, {"data.image_column": "image", "rewrite.rewrites_per_set": 2})
    backlog = find_backlog(changed)
    (unit,) = backlog.to_draw
    assert slots_to_draw(table_from_bytes(_row(backlog, unit)["samples"])) == [[1]] * ROWS


@case("Identity", "rows appended to a table that fits one shard and now has two", "only the new rows are rewritten")
def test_a_table_that_grows_past_a_range_keeps_its_rewrites(rewritten: Experiment) -> None:
    full = with_overrides(rewritten, {"data.max_rows_per_shard": ROWS, "output": f"{rewritten.output}2"})
    draw(find_backlog(full))
    with Path(str(full.data.path)).open("a") as file:
        file.write('{"caption": "a new caption"}\n')
    backlog = compared(full)
    assert drawn_samples(backlog) == {"data.jsonl.000000004": [True]}
    draw(backlog)
    assert found(full) == ROWS + 1


@case("Identity", "a caption edited in a file of rewritten captions", "only this caption is rewritten")
def test_an_edited_caption_is_drawn_also_under_new_ids(rewritten: Experiment) -> None:
    path = Path(str(rewritten.data.path))
    path.write_text(path.read_text().replace("caption 2", "caption two"))
    for settings in ({"data.id_column": "key"}, {"data.image_column": "image"}, {}):
        backlog = compared(with_overrides(rewritten, settings))
        assert drawn_samples(backlog) == {"data.jsonl": [False, False, True, False]}


def test_origins_of_earlier_versions_count_as_read_with_the_present_settings(rewritten: Experiment) -> None:
    backlog = find_backlog(rewritten)
    rewrite_set = backlog.sets["cleaned"]
    before = backlog.committed["cleaned"]["data.jsonl"].origin
    store.restamp_verdicts(rewrite_set, "data.jsonl", 0, replace(before, reading=None))
    assert find_backlog(rewritten).units == []
    # The number of rows tells another range.
    fewer = find_backlog(with_overrides(rewritten, {"data.max_rows_per_shard": 2}))
    assert [unit.shard for unit in fewer.to_compare] == ["data.jsonl"]
    # Settings that are newer than such an origin had no effect then.
    lists = find_backlog(with_overrides(rewritten, {"data.captions": "all"}))
    assert [unit.shard for unit in lists.to_compare] == ["data.jsonl"]


def test_draws_of_another_gate_are_judged_under_new_ids(rewritten: Experiment) -> None:
    other = with_overrides(rewritten, {"data.image_column": "image", "rewrite.gate.min_words": 3})
    backlog = compared(other)
    assert backlog.to_judge == [WorkUnit("cleaned", "data.jsonl", 0)]
    assert backlog.to_draw == []


def test_a_restamped_origin_keeps_what_the_draws_cost(rewritten: Experiment) -> None:
    compared(with_overrides(rewritten, {"data.image_column": "image"}))
    rewrite_set = find_backlog(rewritten).sets["cleaned"]
    drawn = rewrite_set.origin("data.jsonl", 0)
    stamped: Origin = rewrite_set.describe({"data.jsonl": 0})["data.jsonl"].origin
    assert stamped == replace(drawn, inputs=stamped.inputs, reading=stamped.reading)
    assert storage.exists(rewrite_set.verdicts_url("data.jsonl", 0))
