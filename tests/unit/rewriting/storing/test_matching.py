"""Training refuses rewrite sets that it would find no rewrites in, with the reason."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from laclip_ray import storage
from laclip_ray.config import Experiment, with_overrides
from laclip_ray.data.shards import list_shards
from laclip_ray.errors import IncompleteError, UserError
from laclip_ray.rewriting.storing.matching import check_joins
from laclip_ray.rewriting.storing.sets import SetSelection, committed_sets
from laclip_ray.rewriting.transfer.export import export_rewrites
from laclip_ray.rewriting.transfer.import_texts import import_rewrites
from tests.cases import case
from tests.unit.rewriting.imported import experiment_of, reading, write_csv, write_lines

ROWS = 6


@pytest.fixture
def imported(tmp_path: Path) -> Experiment:
    """Two files of captions with an imported set, read by the captions' column `caption`."""
    for number in range(2):
        rows = [
            {"caption": f"caption {number} {row}", "title": f"title {row}", "image": f"{number}-{row}.jpg"}
            for row in range(ROWS)
        ]
        path = tmp_path / "data" / f"{number}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    experiment = experiment_of(tmp_path, {"path": str(tmp_path / "data"), "image_column": "image"})
    captions = [(f"{number}-{row}.jpg", f"caption {number} {row}") for number in range(2) for row in range(ROWS)]
    texts = [write_lines(tmp_path / "cleaned.txt", [f"rewrite {row}" for row in range(2 * ROWS)])]
    return reading(experiment, import_rewrites(experiment, write_csv(tmp_path / "c.csv", captions), texts))


def check(experiment: Experiment) -> None:
    sets = committed_sets(SetSelection.of(experiment))
    check_joins(sets, sets.describe(), list_shards(experiment.data), experiment.data)


def replace_file(experiment: Experiment, name: str, old: str, new: str) -> None:
    path = Path(str(experiment.data.path), name)
    path.write_text(path.read_text().replace(old, new))
    later_ns = path.stat().st_mtime_ns + 1_000_000_000
    os.utime(path, ns=(later_ns, later_ns))


@pytest.mark.parametrize(
    "settings", [{}, {"data.image_column": None}, {"data.id_column": "title"}, {"data.max_pixels": 5}]
)
def test_rewrites_that_are_found_are_accepted(imported: Experiment, settings: dict[str, Any]) -> None:
    check(with_overrides(imported, settings))


@case(
    "Identity",
    "`data.caption_column` changed between rewriting and training",
    "training refuses: no caption would find its rewrites",
    exit_code=2,
)
def test_another_caption_column_is_refused_with_both_values(imported: Experiment) -> None:
    expected = (
        r"^text: .*cleaned: none of the first 6 captions of 0\.jsonl has rewrites there; since it was rewritten, "
        r"data\.caption_column was 'caption' and is 'title'\. Set this back, or run `laclip rewrite`"
    )
    with pytest.raises(UserError, match=expected):
        check(with_overrides(imported, {"data.caption_column": "title"}))


@case("Identity", "every data file replaced after rewriting", "training refuses", exit_code=2)
def test_replaced_files_are_refused(imported: Experiment) -> None:
    for name in ("0.jsonl", "1.jsonl"):
        replace_file(imported, name, "caption ", "text ")
    with pytest.raises(UserError, match=r"since it was rewritten, its file was replaced"):
        check(imported)


def test_one_replaced_file_of_several_is_a_warning(imported: Experiment, caplog: pytest.LogCaptureFixture) -> None:
    replace_file(imported, "1.jsonl", "caption ", "text ")
    check(imported)
    assert "captions of 1.jsonl has rewrites there" in caplog.text
    assert "not_rewritten" in caplog.text


@case(
    "Identity",
    "`data.max_rows_per_shard` changed between rewriting and training",
    "warnings name the shards; rows without rewrites show captions",
    counted_as="not_rewritten",
)
def test_other_ranges_are_a_warning(imported: Experiment, caplog: pytest.LogCaptureFixture) -> None:
    check(with_overrides(imported, {"data.max_rows_per_shard": 4}))
    assert "2 of 4 shards have no rewrites (0.jsonl.000000004, 1.jsonl.000000004)" in caplog.text
    assert "(0.jsonl: 6 rows from row 0 became 4 rows from row 0)" in caplog.text


def test_a_copied_file_is_accepted(imported: Experiment, caplog: pytest.LogCaptureFixture) -> None:
    replace_file(imported, "1.jsonl", "x", "x")
    check(imported)
    assert caplog.text == ""


@case("Identity", "`text.rewrites` names a set of other data", "training refuses", exit_code=2)
def test_sets_of_other_shards_are_refused(imported: Experiment, tmp_path: Path) -> None:
    Path(str(imported.data.path)).rename(tmp_path / "moved")
    (tmp_path / "data").mkdir()
    (tmp_path / "moved" / "0.jsonl").rename(tmp_path / "data" / "other.jsonl")
    expected = (
        r"^text: .*cleaned has rewrites only of other shards: 0\.jsonl, 1\.jsonl; the data's shards are other\.jsonl"
    )
    with pytest.raises(UserError, match=expected):
        check(imported)


@case("Identity", "training with rewrite sets that have no rewrites yet", "refused", exit_code=2)
def test_empty_sets_are_refused(imported: Experiment) -> None:
    (location,) = imported.text.rewrites or []
    for url in storage.list_files(location):
        if not url.endswith("recipe.json"):
            storage.remove(url)
    with pytest.raises(UserError, match=r"cleaned has no rewrites yet; .* Run `laclip rewrite`"):
        check(imported)


@case(
    "Identity",
    "`data.caption_column` changed between rewriting and export",
    "the export names both values; `laclip rewrite` with the new one does the work",
    exit_code=3,
)
def test_an_export_names_the_settings_that_changed(imported: Experiment, tmp_path: Path) -> None:
    changed = with_overrides(imported, {"data.caption_column": "title"})
    expected = (
        r"the captions of 2 shards have changed since they were rewritten \(0\.jsonl, 1\.jsonl\): data\.caption_column "
        r"was 'caption' and is 'title'\. Set this back, or run `laclip rewrite` with this config"
    )
    with pytest.raises(IncompleteError, match=expected):
        export_rewrites(changed, str(tmp_path / "all.parquet"), "parquet")


@case(
    "Identity", "`data.image_column` changed between rewriting and export", "every rewrite is exported under its new id"
)
def test_an_export_finds_rewrites_under_other_ids(imported: Experiment, tmp_path: Path) -> None:
    changed = with_overrides(imported, {"data.image_column": None})
    exported = export_rewrites(changed, str(tmp_path / "all.parquet"), "parquet")
    assert (exported.samples_without, exported.changed, exported.changed_samples) == (0, [], 0)
    rows = storage.read_parquet(str(tmp_path / "all.parquet")).to_pylist()
    assert [row["cleaned"] for row in rows] == [[f"rewrite {row}"] for row in range(2 * ROWS)]
    assert all(row["id"] == row["caption_hash"] for row in rows)
