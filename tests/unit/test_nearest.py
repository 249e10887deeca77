"""The nearest of known names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.nearest import did_you_mean, nearest

NAMES = st.lists(st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1), min_size=1, unique=True)


@given(NAMES)
def test_the_nearest_name_is_one_of_the_known_names(names: list[str]) -> None:
    for name in names:
        assert nearest(name, names) in names
        assert nearest(name[:-1], names) in (*names, None)


@given(NAMES)
def test_a_known_name_is_its_own_nearest_and_no_question(names: list[str]) -> None:
    different = list({name.lower(): name for name in names}.values())
    for name in different:
        assert nearest(name, different) == name
        assert did_you_mean(name, different) == ""


@pytest.mark.parametrize(("name", "found"), [("Cleaned", "cleaned"), ("clened", "cleaned"), ("xyz", None), ("", None)])
def test_case_and_typing_errors_do_not_matter(name: str, found: str | None) -> None:
    assert nearest(name, ["cleaned", "crowd"]) == found
