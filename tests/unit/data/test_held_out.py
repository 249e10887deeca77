"""The held-out samples: a pure, nested choice that training and evaluation agree on."""

import string
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.config import DataConfig, RetrievalDataConfig
from laclip_ray.data.entries import StreamSpec, read_entry
from laclip_ray.data.held_out import HELD_OUT, is_for_evaluation, is_held_out, own_id
from laclip_ray.data.records import DUPLICATE_ID, SHARD_TRUNCATED, Sample, UniqueIds, number_id
from laclip_ray.data.schedule import Schedule
from laclip_ray.data.shards import list_shards
from laclip_ray.evaluation.captioned import captioned_sources
from laclip_ray.training.rows import count_shard, count_up_to
from tests.unit.conftest import picture, write_tar
from tests.unit.data.conftest import rows_of

IDS = st.lists(st.text(string.ascii_lowercase + "#/.0", min_size=1, max_size=12), min_size=1, max_size=40, unique=True)
SHARES = st.floats(0.0, 0.999)


def sample_of(sample_id: str) -> Sample:
    return Sample(0, sample_id, "a cat", None)


def chosen(ids: Sequence[str], share: float, seed: int = 0) -> set[str]:
    data = DataConfig(path="x", held_out=share, held_out_seed=seed)
    return {each for each in ids if is_held_out(sample_of(each), data)}


@given(IDS, SHARES, SHARES)
def test_a_smaller_share_is_part_of_a_larger_one(ids: list[str], one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert chosen(ids, small) <= chosen(ids, large)


@given(IDS, SHARES)
def test_the_choice_of_a_sample_does_not_depend_on_the_others(ids: list[str], share: float) -> None:
    assert chosen(ids, share) == set().union(*(chosen([each], share) for each in ids))


def test_the_share_is_met_and_each_seed_chooses_others() -> None:
    ids = [str(number) for number in range(20_000)]
    first, second = chosen(ids, 0.1, seed=0), chosen(ids, 0.1, seed=1)
    assert len(first) == pytest.approx(2_000, abs=200)
    assert len(first & second) == pytest.approx(200, abs=80)


@given(st.text(string.ascii_lowercase + "#0.", min_size=1, max_size=8), st.integers(0, 20), SHARES)
def test_all_captions_of_a_row_are_on_one_side(row_id: str, number: int, share: float) -> None:
    data = DataConfig(path="x", held_out=share)
    other = replace(sample_of(number_id(row_id, number)), caption_number=number)
    assert is_held_out(other, data) == is_held_out(sample_of(row_id), data)


@given(st.text(string.ascii_lowercase, min_size=1, max_size=3), st.integers(2, 5))
def test_a_repeated_id_is_on_the_side_of_the_first(row_id: str, times: int) -> None:
    ids = UniqueIds()
    for repeat in range(times):
        unique = ids.unique(row_id)
        assert own_id(replace(sample_of(unique), problems=(DUPLICATE_ID,) if repeat else ())) == row_id


def test_rows_of_one_file_are_on_one_side_whatever_their_ids() -> None:
    assert own_id(replace(sample_of("7"), image_path="a.jpg")) == own_id(replace(sample_of("9"), image_path="a.jpg"))


def test_a_report_on_a_shard_is_never_held_out_and_evaluation_reads_it() -> None:
    data = DataConfig(path="x", held_out=0.999)
    report = replace(sample_of("0.tar#end"), problems=(SHARD_TRUNCATED,))
    assert not is_held_out(report, data)
    assert is_for_evaluation(report, data)


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    """Two tars of 40 samples."""
    for shard in range(2):
        pairs = [(f"{shard}-{row}", picture(width=20 + row)) for row in range(40)]
        members = [(f"{key}.{kind}", b"a cat" if kind == "txt" else image) for key, image in pairs
                   for kind in ("png", "txt")]  # fmt: skip
        write_tar(tmp_path / "data" / f"{shard}.tar", members)
    return DataConfig(path=str(tmp_path / "data"), held_out=0.3)


def test_training_and_evaluation_divide_the_samples(data: DataConfig, spec: StreamSpec) -> None:
    shards = list_shards(data)
    stream = replace(spec, data=data, shards=tuple(shards), schedule=Schedule(2, 1, 0), rewrites=None)
    blocks = [block for index in (0, 1) for block in read_entry(stream, index, set())]
    trained = {str(each) for block in blocks for each in block["id"]}
    skipped = {each[1]: each[2] for row in rows_of(blocks) for each in row.skipped}
    sources = captioned_sources(RetrievalDataConfig.model_validate(data.model_dump()), "data", is_held_out=True)
    evaluated = {row.id for source in sources for row in source.rows()}
    assert evaluated == skipped.keys()
    assert set(skipped.values()) == {HELD_OUT}
    assert not evaluated & trained
    assert len(evaluated | trained) == 80
    assert 10 < len(evaluated) < 40


def test_training_counts_only_what_it_trains_on(data: DataConfig) -> None:
    shards = list_shards(data)
    usable = sum(count_shard(data, shard).usable for shard in shards)
    whole = data.model_copy(update={"held_out": 0.0})
    assert count_up_to(1_000, data, shards) == usable < 80
    assert [count_shard(data, shard).digest for shard in shards] == [
        count_shard(whole, shard).digest for shard in shards
    ]


def test_features_of_a_set_do_not_depend_on_what_is_held_out_elsewhere(data: DataConfig) -> None:
    section = RetrievalDataConfig.model_validate(data.model_dump())
    whole = section.model_copy(update={"held_out": 0.0})
    keys = [[source.key for source in captioned_sources(each, "data")] for each in (section, whole)]
    assert keys[0] == keys[1]
    assert {source.key for source in captioned_sources(section, "data", is_held_out=True)}.isdisjoint(keys[0])
