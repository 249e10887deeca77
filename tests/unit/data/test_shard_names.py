"""Names tell files apart, and do not depend on other data."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.data.data_files import DataFile
from laclip_ray.data.shard_names import unique_names
from laclip_ray.errors import UserError
from tests.cases import case


def files_of(*urls_and_names: tuple[str, str]) -> list[DataFile]:
    return [
        DataFile(f"{root}/{name}", root.partition("://")[2] if "://" in root else root, name, {})
        for root, name in urls_and_names
    ]


def test_names_without_a_clash_stay() -> None:
    files = files_of(("/d/a", "0.tar"), ("/d/a", "x/0.tar"), ("/d/b", "1.tar"))
    assert list(unique_names(files, "data")) == ["0.tar", "x/0.tar", "1.tar"]


@pytest.mark.parametrize(
    ("roots", "prefixes"),
    [
        (("/d/a", "/d/b"), ("a", "b")),
        (("/x/data", "/y/data"), ("x/data", "y/data")),
        (("/d", "/d/d"), ("d", "d/d")),
        (("s3://one/data", "s3://two/data"), ("one/data", "two/data")),
        (("s3://one", "gs://one"), ("s3/one", "gs/one")),
        (("/data", "/mnt/b/data"), ("data", "b/data")),
    ],
)
@case("Reading data", "two roots with equal shard names", "read together; names begin with the end of their root")
def test_equal_names_get_the_shortest_prefix_that_tells_them_apart(
    roots: tuple[str, str], prefixes: tuple[str, str]
) -> None:
    files = files_of(*product(roots, ("0.tar", "1.tar")), ("/other", "2.tar"))
    expected = [f"{prefix}/{name}" for prefix, name in product(prefixes, ("0.tar", "1.tar"))]
    named = unique_names(files, "data")
    assert len({*named}) == 5
    assert "2.tar" in named
    assert all(name.endswith(wanted) for name, wanted in zip(named, expected, strict=False))


def test_a_whole_root_gets_the_prefix_so_its_names_do_not_depend_on_the_other() -> None:
    files = files_of(("/d/a", "0.tar"), ("/d/a", "1.tar"), ("/d/b", "0.tar"))
    assert list(unique_names(files, "data")) == ["a/0.tar", "a/1.tar", "b/0.tar"]


def test_a_name_that_no_prefix_makes_unique_is_refused() -> None:
    files = files_of(("/d/a", "0.tar"), ("file:///d/a", "0.tar"))
    assert len(unique_names(files, "data")) == 2
    same = [DataFile("one", "/a", "0.tar", {}), DataFile("two", "/a", "0.tar", {})]
    with pytest.raises(UserError, match="one and two would both be the shard"):
        unique_names(same, "data")


parts = st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map("/".join)


@given(paths=st.sets(st.tuples(parts, parts), min_size=1, max_size=12))
def test_every_file_has_a_name_of_its_own(paths: set[tuple[str, str]]) -> None:
    by_url = {f"/{root}/{name}": (f"/{root}", name) for root, name in sorted(paths)}
    named = unique_names(files_of(*by_url.values()), "data")
    assert {file.url for file in named.values()} == by_url.keys()


def test_names_can_be_stored() -> None:
    (name,) = unique_names(files_of(("/d", "\udcff.tar")), "data")
    assert name.encode()
