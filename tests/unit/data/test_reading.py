"""A shard's reading changes exactly with the settings that decide its rows, ids and captions."""

from dataclasses import replace
from typing import Any

import pytest

from laclip_ray.config import DataConfig
from laclip_ray.data.reading import SETTINGS, describe_differences, differences, reading_of
from laclip_ray.data.records import Shard

DECIDES: dict[str, Any] = {
    "caption_column": "text",
    "id_column": "key",
    "captions": "all",
    "image_column": "image",
    "columns": ["a", "b"],
    "quoting": "none",
}
"""Settings in a CSV's reading, each with another value than the default."""
ELSEWHERE = {
    "path": "the shard's name and its file's identity",
    "format": "the shard's format",
    "index": "what is read anew, never what is read",
    "held_out": "training leaves the samples out after it has read them",
    "held_out_seed": "as `held_out`",
    "max_rows_per_shard": "the shard's range",
}
ONLY_IMAGES = {"image_root", "image_schemes", "private_hosts", "exif", "max_image_bytes", "max_pixels"}


def shard(**changes: Any) -> Shard:
    return replace(Shard("a.csv", "a.csv", "csv", 0, 10), **changes)


def test_every_setting_of_data_decides_rows_or_is_known_not_to() -> None:
    assert {*DECIDES, *ELSEWHERE, *ONLY_IMAGES} == set(DataConfig.model_fields)
    assert {*SETTINGS["csv"]} == DECIDES.keys()


@pytest.mark.parametrize("key", DECIDES)
def test_a_setting_that_decides_rows_is_part_of_the_reading(key: str) -> None:
    before = reading_of(shard(), DataConfig(path="x"))
    now = reading_of(shard(), DataConfig(path="x", **{key: DECIDES[key]}))
    assert [*differences(before, now)] == [key]
    assert differences(now, now) == {}


@pytest.mark.parametrize("changes", [{"start_row": 5}, {"row_count": 5}, {"format": "tsv"}])
def test_the_range_and_the_format_are_part_of_the_reading(changes: dict[str, Any]) -> None:
    data = DataConfig(path="x")
    assert differences(reading_of(shard(), data), reading_of(shard(**changes), data))


def test_settings_of_tables_are_no_part_of_a_tars_reading() -> None:
    tar = Shard("a.tar", "a.tar", "webdataset")
    changed = DataConfig(path="x", image_column="image", columns=["a"], quoting="none", max_rows_per_shard=5)
    assert reading_of(tar, changed) == reading_of(tar, DataConfig(path="x"))


def test_a_setting_that_an_earlier_version_did_not_have_had_its_default() -> None:
    now = reading_of(shard(), DataConfig(path="x"))
    before = {key: value for key, value in now.items() if key != "quoting"}
    assert differences(before, now) == {}
    changed = reading_of(shard(), DataConfig(path="x", quoting="none"))
    assert describe_differences(before, changed) == "data.quoting was 'auto' and is 'none'"


def test_a_value_that_was_not_set_is_said_so() -> None:
    before, now = (reading_of(shard(), DataConfig(path="x", id_column=column)) for column in (None, "key"))
    assert describe_differences(before, now) == "data.id_column was not set and is 'key'"
