"""Lines have the text and the offsets that they have in the file, in every encoding."""

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.data import lines
from laclip_ray.data.lines import Line, TextForm, detect_form, split_lines

ENCODINGS = ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]

texts = st.text(st.characters(exclude_characters="\r\n\ufeff", exclude_categories=["Cs"]))


def blocks(content: bytes, size: int) -> list[bytes]:
    return [content[start : start + size] for start in range(0, len(content), size)]


@given(
    parts=st.lists(texts),
    encoding=st.sampled_from(ENCODINGS),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    size=st.integers(1, 50),
)
def test_splitting_gives_every_line_and_continues_from_its_offset(
    parts: list[str], encoding: str, end: str, size: int
) -> None:
    content = "".join(part + end for part in parts).encode(encoding)
    form = TextForm(encoding, end[-1])
    whole = list(split_lines(blocks(content, size), form))
    assert [None if line is None else line.decode() for _, line in whole] == parts
    for number, (offset, _) in enumerate(whole):
        assert list(split_lines(blocks(content[offset:], size), form, offset)) == whole[number:]


@given(content=st.binary(max_size=80), encoding=st.sampled_from(ENCODINGS), size=st.integers(1, 50))
def test_bytes_that_are_no_text_keep_offsets_right(content: bytes, encoding: str, size: int) -> None:
    form = TextForm(encoding, "\n")
    whole = list(split_lines(blocks(content, size), form))
    for number, (offset, _) in enumerate(whole):
        if offset:  # a byte order mark is removed at the start of the file only
            assert list(split_lines(blocks(content[offset:], size), form, offset)) == whole[number:]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("has_mark", [False, True])
@pytest.mark.parametrize("row", ["a small boat\thttp://h/1.jpg\n", "一只猫坐在桌子上\thttp://h/1.jpg\n"])
def test_the_encoding_is_found_with_and_without_a_byte_order_mark(encoding: str, has_mark: bool, row: str) -> None:
    content = ("\ufeff" * has_mark + row * 50).encode(encoding)
    assert detect_form(content[:401]) == (encoding, "\n")
    (first, *_) = split_lines([content], detect_form(content))
    assert first == (0, row.rstrip().encode())


@given(rows=st.lists(st.text(st.characters(codec="utf-8"), max_size=20), min_size=1, max_size=5))
def test_stray_zeros_do_not_change_the_encoding(rows: list[str]) -> None:
    content = "".join(f"http://h/{number}.jpg,{row}\n" for number, row in enumerate(rows)).encode()
    assert detect_form(content).encoding == "utf-8"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a\rb\rc", "\r"),
        (b'a\r"b\nc"\rd\r', "\r"),
        (b"a\r\nb\r\n", "\n"),
        (b"a\rb\nc\nd\n", "\n"),
        (b"a\nb\rc\rd\r", "\n"),
        (b"a", "\n"),
        (b"", "\n"),
    ],
)
def test_a_carriage_return_ends_lines_only_in_files_of_old_macs(content: bytes, expected: str) -> None:
    assert detect_form(content) == ("utf-8", expected)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
@pytest.mark.parametrize("size", [7, 50, 51, 52])
def test_a_line_over_the_bound_is_reported_without_its_content(
    encoding: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    width = len("x".encode(encoding))
    monkeypatch.setattr(lines, "MAX_ROW_BYTES", 50 * width)
    content = f"ab\n{'x' * 51}\n{'y' * 50}\n{'z' * 200}".encode(encoding)
    expected: list[Line] = [(0, b"ab"), (3, None), (55, b"y" * 50), (106, None)]
    found = list(split_lines(blocks(content, size), TextForm(encoding, "\n")))
    assert found == [(offset * width, line) for offset, line in expected]


def test_only_the_first_line_loses_a_byte_order_mark() -> None:
    content = codecs.BOM_UTF8 + b"a\n" + codecs.BOM_UTF8 + b"b\n"
    assert list(split_lines([content], TextForm("utf-8", "\n"))) == [(0, b"a"), (5, codecs.BOM_UTF8 + b"b")]
