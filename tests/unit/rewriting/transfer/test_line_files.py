"""A file's name says which set and slot it holds, and lines are read back unchanged."""

from pathlib import Path
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from laclip_ray.errors import UserError
from laclip_ray.rewriting.transfer.line_files import clean_line, file_names, group_files, open_lines

set_names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,8}", fullmatch=True)


def test_files_of_a_set_whose_name_ends_with_a_number_are_always_numbered() -> None:
    assert file_names("human", 1) == ["human.txt"]
    assert file_names("human.1", 1) == ["human.1.0.txt"]
    assert file_names("human", 2) == ["human.0.txt", "human.1.txt"]


@given(slots=st.dictionaries(set_names, st.integers(1, 12), min_size=1, max_size=3), random=st.randoms())
def test_files_are_grouped_by_the_names_that_an_export_gives_them(slots: dict[str, int], random: Random) -> None:
    names = {name: file_names(name, count) for name, count in slots.items()}
    urls = [url for files in names.values() for url in files]
    assume(len({*urls}) == len(urls))
    random.shuffle(urls)
    assert group_files(urls) == names


def test_a_slot_has_one_file() -> None:
    with pytest.raises(UserError, match=r"a/human\.0\.txt and b/human\.0\.txt would both be rewrite 0 of the set"):
        group_files(["a/human.0.txt", "b/human.0.txt"])


@given(lines=st.lists(st.text(st.characters(codec="utf-8")).map(clean_line)))
def test_lines_are_read_by_number(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    path = tmp_path_factory.mktemp("lines") / "human.txt"
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    with open_lines(str(path)) as opened:
        assert [opened[number] for number in range(len(opened))] == lines


def test_a_line_is_cleaned_of_marks_line_breaks_and_white_space(tmp_path: Path) -> None:
    path = tmp_path / "human.txt"
    path.write_bytes(b"\xef\xbb\xbf first \r\n\nbad \xff byte")
    with open_lines(str(path)) as opened:
        assert [opened[number] for number in range(len(opened))] == ["first", "", "bad \ufffd byte"]


def test_a_name_is_given_once() -> None:
    with pytest.raises(UserError, match=r"^--name: two sets would be called 'mine'; give each a name of its own$"):
        group_files(["a.txt", "b.txt"], ["mine", "mine"])
