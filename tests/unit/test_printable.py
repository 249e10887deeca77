"""Text from data cannot act on a terminal or forge lines of a log."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.printable import counted, printable, printable_line


def test_ordinary_text_of_any_script_is_unchanged() -> None:
    text = "a café\tin 東京 🌸\nשלום"
    assert printable(text) == text


@given(st.text())
def test_no_control_character_is_left(text: str) -> None:
    shown = printable(text)
    assert all(character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cs") for character in shown)
    shown.encode()
    assert not {*printable_line(text)} & {"\n", "\x1b", "\r"}


def test_terminal_sequences_and_reordering_marks_become_visible() -> None:
    assert printable("\x1b]0;title\x07 \u202egpj.exe\r") == r"\x1b]0;title\x07 \u202egpj.exe\r"


@given(st.integers(0, 10**7))
def test_one_thing_alone_is_named_in_the_singular(number: int) -> None:
    assert counted(number, "shard").endswith(" shard") is (number == 1)
