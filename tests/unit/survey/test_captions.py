"""Counts over captions do not depend on how the captions are divided."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.survey.captions import CaptionCounts, PictureSizes, main_script

TEXTS = st.lists(st.text(max_size=30), max_size=30)


def counts_of(texts: list[str]) -> CaptionCounts:
    counts = CaptionCounts()
    for text in texts:
        counts.add(text)
    return counts


@given(TEXTS, TEXTS)
def test_merged_counts_are_those_of_all_captions(one: list[str], other: list[str]) -> None:
    merged = counts_of(one)
    merged.merge(counts_of(other))
    assert merged == counts_of([*one, *other])


@given(TEXTS)
def test_shares_are_shares(texts: list[str]) -> None:
    counts = counts_of(texts)
    assert 0 <= counts.short_share <= 1
    assert counts.repeated_share == pytest.approx(sum(texts.count(text) > 1 for text in texts) / max(len(texts), 1))
    assert counts.scripts.total() == counts.captions == len(texts)


def test_words_and_scripts() -> None:
    counts = counts_of(["a red fox", "fox", "a fox in the snow at night", "\u732b\u304c\u5ea7\u308b"])
    assert (counts.median_words, counts.short_share) == (3, 0.25)
    assert counts.scripts == {"LATIN": 3, "CJK": 1}
    assert main_script("\U0001f600 1") == "none"


def test_sizes_of_pictures() -> None:
    assert PictureSizes().to_json() == {}
    assert PictureSizes([(300, 200), (400, 500), (500, 400)]).to_json() == {
        "pictures": 3, "median_width": 400, "median_height": 400, "smallest_side": 200, "share_under_224": 1 / 3,
    }  # fmt: skip
