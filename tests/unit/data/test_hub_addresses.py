"""Pages of the Hugging Face Hub become URLs that fsspec reads, and other paths stay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.data.hub_addresses import resolve_hub_address

HUB = "https://huggingface.co/datasets"


@pytest.mark.parametrize(
    ("address", "url"),
    [
        (f"{HUB}/clip-benchmark/wds_cars/tree/main", "hf://datasets/clip-benchmark/wds_cars@main"),
        (f"{HUB}/clip-benchmark/wds_cars/tree/main/", "hf://datasets/clip-benchmark/wds_cars@main"),
        (f"{HUB}/a/b/tree/v1.0/data/x", "hf://datasets/a/b@v1.0/data/x"),
        (f"{HUB}/a/b/tree/refs%2Fconvert%2Fparquet/default", "hf://datasets/a/b@refs%2Fconvert%2Fparquet/default"),
        (f"{HUB}/a/b/blob/main/test.parquet", "hf://datasets/a/b@main/test.parquet"),
        (f"{HUB}/a/b/resolve/main/test.parquet?download=true", "hf://datasets/a/b@main/test.parquet"),
        (f"{HUB}/a/b", "hf://datasets/a/b"),
        (f"{HUB}/a/b/", "hf://datasets/a/b"),
        ("http://hf.co/datasets/a/b#card", "hf://datasets/a/b"),
        (f"{HUB}/a/b/tree/main/my%20data", "hf://datasets/a/b@main/my data"),
        (f"{HUB}/a/b/tree/main/{{00..12}}.tar", "hf://datasets/a/b@main/{00..12}.tar"),
        (f"{HUB}/a/b/tree/main/0?.tar?not-for-all-audiences=true", "hf://datasets/a/b@main/0?.tar"),
    ],
)
def test_pages_of_the_hub_become_urls_that_can_be_read(address: str, url: str) -> None:
    assert resolve_hub_address(address) == url


@pytest.mark.parametrize(
    "path",
    [
        "/data/set",
        "s3://bucket/set",
        "hf://datasets/a/b",
        f"{HUB}/a",
        f"{HUB}/a/b/viewer",
        "https://huggingface.co/a/b/tree/main",
        "https://example.com/datasets/a/b/tree/main",
        f"https://example.com/?{HUB}/a/b",
    ],
)
def test_other_paths_stay_as_they_are(path: str) -> None:
    assert resolve_hub_address(path) == path


@given(st.text())
def test_any_text_is_resolved_or_kept(text: str) -> None:
    assert resolve_hub_address(text) == text
