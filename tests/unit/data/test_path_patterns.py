"""Braces expand as in a shell, and joined paths are told from chained URLs."""

import pytest
from braceexpand import braceexpand
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.data.path_patterns import MAX_ALTERNATIVES, TooManyError, expand_braces, split_joined


@given(pattern=st.text("ab,.0129{}-/", max_size=24).filter(lambda text: "--" not in text))
def test_braces_expand_as_webdataset_expands_them(pattern: str) -> None:
    try:
        expected = list(braceexpand(pattern))
    except ValueError:  # unbalanced braces
        assert expand_braces(pattern)
        return
    assert expand_braces(pattern) == expected


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("{00000..00002}.tar", ["00000.tar", "00001.tar", "00002.tar"]),
        ("{8..10}.tar", ["8.tar", "9.tar", "10.tar"]),
        ("{000..100..50}", ["000", "050", "100"]),
        ("s3://b/{train,val}/{0..1}.tar", [f"s3://b/{part}/{n}.tar" for part in ("train", "val") for n in (0, 1)]),
        ("{a,b{1..2}}", ["a", "b1", "b2"]),
        ("x{,-small}.tar", ["x.tar", "x-small.tar"]),
        ("{plain}.tar", ["{plain}.tar"]),
        ("a{b.tar", ["a{b.tar"]),
        ("a}{1..2}.tar", ["a}1.tar", "a}2.tar"]),
        ("{}}{,}{", ["{}}{,}{"]),
        ("plain.tar", ["plain.tar"]),
    ],
)
def test_braces_stand_for_paths(pattern: str, paths: list[str]) -> None:
    assert expand_braces(pattern) == paths


@pytest.mark.parametrize("pattern", ["{1..9999999999}", "{0..999}{0..999}{0..9}", "{0..99999,{0..999999}}"])
def test_too_many_paths_are_refused_before_they_are_made(pattern: str) -> None:
    with pytest.raises(TooManyError, match=f"more than {MAX_ALTERNATIVES:,} paths"):
        expand_braces(pattern)


def test_deep_braces_are_refused() -> None:
    with pytest.raises(TooManyError, match="nested too deeply"):
        expand_braces("{a," * 5_000 + "b" + "}" * 5_000)


@pytest.mark.parametrize(
    ("joined", "paths"),
    [
        ("a.tar", ["a.tar"]),
        ("a.tar::b.tar", ["a.tar", "b.tar"]),
        ("s3://a/{0..9}.tar::s3://b/{0..9}.tar", ["s3://a/{0..9}.tar", "s3://b/{0..9}.tar"]),
        ("simplecache::s3://a/0.tar", ["simplecache::s3://a/0.tar"]),
        ("zip://0.csv::s3://a/b.zip", ["zip://0.csv::s3://a/b.zip"]),
        ("a.tar::simplecache::s3://a/0.tar", ["a.tar", "simplecache::s3://a/0.tar"]),
    ],
)
def test_joined_paths_are_split(joined: str, paths: list[str]) -> None:
    assert split_joined(joined) == paths
