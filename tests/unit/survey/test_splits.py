"""The paths of a split name its files and no others."""

from fnmatch import fnmatch

from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.survey.splits import evaluated_split, paths_of, splits_of

NAMES = ("train", "test", "val", "validation", "dev")


@st.composite
def files(draw: st.DrawFn) -> list[str]:
    """Files of several splits, in directories of their own or beside each other."""
    separator = draw(st.sampled_from(["-", "_", "."]))
    form = draw(st.sampled_from(["{split}{separator}{number:05d}.parquet", "data/{split}{separator}{number}.csv",
                                 "{split}/{number}.tar", "a{number}/{split}/x.tar", "{split}.csv"]))  # fmt: skip
    splits = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    numbers = range(draw(st.integers(1, 4)))
    return sorted({f"s3://b/d/{form.format(split=split, separator=separator, number=number)}"
                   for split in splits for number in numbers})  # fmt: skip


@given(files())
def test_paths_name_the_files_of_their_split_alone(urls: list[str]) -> None:
    splits = splits_of(urls, "b/d")
    assert sorted(url for each in splits.values() for url in each) == urls
    for of_split in splits.values():
        paths = paths_of(of_split, "b/d")
        assert paths is not None
        named = [url for url in urls if any(fnmatch(url, path) or url.startswith(f"{path}/") for path in paths)]
        assert named == of_split


def test_a_split_in_many_places_has_no_paths() -> None:
    assert paths_of([f"/d/{number}/train/a.tar" for number in range(100)], "/d") is None


def test_wildcards_in_names_of_directories_are_not_put_into_a_glob() -> None:
    assert paths_of(["/d[1]/train-0.parquet"], "/d[1]") is None


def test_a_validation_split_is_measured_before_a_test_split_and_none_beside_files_without_a_split() -> None:
    assert evaluated_split({"train": ["a"], "test": ["b"], "val": ["c"]}) == "val"
    assert evaluated_split({"train": ["a"], "test": ["b"]}) == "test"
    assert evaluated_split({"train": ["a"], "": ["b"], "test": ["c"]}) is None
    assert evaluated_split({"test": ["a"]}) is None
