"""What is taken of a completion: one clean line, the same if it is parsed again, and never no word of many."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.config import GateConfig
from laclip_ray.printable import printable_line
from laclip_ray.rewriting.judging.gate import Gate, Rejection
from laclip_ray.rewriting.prompting import prompts
from laclip_ray.rewriting.prompting.completions import is_cut, parse_completion, reference_completion
from laclip_ray.rewriting.prompting.prompts import SEPARATOR
from tests.cases import case
from tests.unit.rewriting.shapes import CAPTION, CUP, MUG, SHAPES, Shape

PIECES = [
    *(
        "- ",
        "1. ",
        "a) ",
        "> ",
        "# ",
        "**",
        "*",
        "_",
        "`",
        "```",
        "\n",
        "\r\n",
        " ",
        "<br>",
        "=>",
        " / ",
        " OR ",
        "#mug ",
    ),
    *(
        '"',
        "'",
        "“",
        "”",
        "„",
        "«",
        "»",
        "「",
        "」",
        "\\n",
        '\\"',
        "{",
        "}",
        '{"caption": "',
        '"}',
        "[",
        "]",
        ":",
        ".",
        ",",
    ),
    *("<think>", "</think>", "<p>", "</p>", "<caption>", "</caption>", "&amp;", "&lt;", "&quot;", "&#0;", "<|im_end|>"),
    *(
        "Caption:",
        "Sure, here is the caption:",
        "Original caption: ",
        "assistantfinal",
        "A",
        "a",
        "mug",
        "12",
        "狗",
        "é",
    ),
    *(
        "\x1b[31m",
        "\x1b]0;",
        "\x07",
        "\x92",
        "\ud800",
        "\ufffd",
        "\u200b",
        "\u202e",
        "\x00",
        "\t",
        "🎂",
        "~~",
        "|",
        "\\",
    ),
]
COMPLETIONS = st.text() | st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
CAPTIONS = st.sampled_from(["", CAPTION, "caption : mug", "1. mug", "mug / cup", "**mug**"]) | COMPLETIONS
WORD = re.compile(r"[^\W_]")
NOT_PRINTED = re.compile("\x1b\\[[0-?]*[ -/]*[@-~]|\x1b\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|<[bB][rR] ?/?>")


def test_there_are_ninety_shapes_of_a_dozen_kinds() -> None:
    assert len({shape.completion for shape in SHAPES}) >= 90
    assert len({shape.kind for shape in SHAPES}) >= 12


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.kind}: {shape.completion!r}")
def test_the_rewrite_is_taken_out_of_every_shape_of_output(shape: Shape) -> None:
    assert parse_completion(shape.completion, shape.caption) == shape.taken


def test_no_shape_hides_a_rewrite_from_the_gate() -> None:
    gate = Gate(GateConfig(), (), lambda text: len(text.split()) + 2)
    for shape in SHAPES:
        if shape.taken in (MUG, CUP):
            assert gate.judge(parse_completion(shape.completion, shape.caption), shape.caption, False, 0) is None, shape


@given(completion=COMPLETIONS, caption=CAPTIONS)
def test_parsing_again_changes_nothing(completion: str, caption: str) -> None:
    once = parse_completion(completion, caption)
    assert parse_completion(once, caption) == once


@given(completion=COMPLETIONS, caption=CAPTIONS)
def test_a_completion_with_a_word_gives_a_rewrite_with_a_word(completion: str, caption: str) -> None:
    printed = NOT_PRINTED.sub("\n", completion)
    assert WORD.search(parse_completion(completion, caption)) or not WORD.search(printed)


@given(completion=COMPLETIONS, caption=CAPTIONS)
def test_a_rewrite_is_one_line_that_can_be_stored_and_printed(completion: str, caption: str) -> None:
    text = parse_completion(completion, caption)
    assert text == text.strip()
    assert len(text.splitlines()) <= 1
    assert printable_line(text).replace("\\u200e", "\u200e").replace("\\u200f", "\u200f") == text
    assert text.encode().decode() == text


@given(text=st.from_regex(r"[A-Za-z][a-z]{0,6}('s)?( [A-Za-z0-9.,-]{1,7}){0,8}", fullmatch=True), caption=CAPTIONS)
def test_an_ordinary_text_stays_as_it_is(text: str, caption: str) -> None:
    assert parse_completion(f" {text}\n", caption) == text


@given(before=st.sampled_from(["", " ", "\n", " \n "]), text=st.text(st.characters(categories=["L", "N"]), min_size=1))
def test_the_rewrite_is_the_first_line_that_the_model_wrote(before: str, text: str) -> None:
    assert parse_completion(f"{before}{text} \nnext => line\n") == text


@given(text=st.text(st.characters(categories=["L", "N", "Zs"]), min_size=1).filter(lambda text: text == text.strip()))
@pytest.mark.parametrize("marks", ['""', "“”", "„“", "«»", "»«", "””", "''", "‘’", "「」", "『』", "《》"])
def test_quotes_around_all_of_an_answer_are_taken_off(marks: str, text: str) -> None:
    text = f"Q{text}."  # some words begin with an apostrophe, but none of them with this letter
    assert parse_completion(f"{marks[0]}{text}{marks[1]}\nmore") == text


@pytest.mark.parametrize("completion", ["", " ", "\n\n", "\x1b[31m\x00", "<br>"])
def test_a_model_that_wrote_no_character_gives_an_empty_rewrite(completion: str) -> None:
    assert parse_completion(completion) == ""


@pytest.mark.parametrize("completion", ["---", "1.", "**", '"', "#", "=>", "```", "...", "<p></p>", "🎂"])
def test_a_model_that_wrote_no_word_gives_a_text_that_the_gate_refuses(completion: str) -> None:
    gate = Gate(GateConfig(), (), lambda text: len(text.split()) + 2)
    assert gate.judge(parse_completion(completion, CAPTION), CAPTION, False, 0) is not None


def test_deeply_nested_marks_are_taken_off() -> None:
    assert parse_completion('"' * 300 + MUG + '"' * 300) == MUG
    assert parse_completion("**_" * 50 + MUG + "_**" * 50) == MUG
    assert parse_completion("- " * 300 + MUG) == MUG


@pytest.mark.parametrize(
    ("completion", "cut"),
    [
        ("A red mug sits on", True),
        (f"{MUG}\nI kept the", False),
        (f"{MUG}\n2. A red cup", False),
        (f"{MUG} => red mug => ", False),
        ("<think>\nThe user wants", True),
        (f"<think>\nThe user wants\n</think>\n{MUG}\nIt is", False),
        ('{"caption": "A red mug', True),
        (f'{{"caption": "{MUG}"}}\nI hope', False),
        ("Here is a rewritten caption:", True),
        ("Here is a rewritten caption:\nA red mug", True),
        ("", True),
    ],
)
def test_a_limit_behind_the_rewrite_does_not_cut_it_off(completion: str, cut: bool) -> None:
    assert is_cut(completion, CAPTION) == cut


@given(line=st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"])), more=st.text())
def test_the_papers_code_takes_the_line_of_the_caption_up_to_the_next_separator(line: str, more: str) -> None:
    # The code's rule, on the whole text: line 8, the part behind the first separator.
    head = prompts.completion_head(tuple(prompts.ExamplePair(f"s{n}", f"t{n}") for n in range(3)), "reference")
    written = f"{head.prompt('a red mug')}{line}\n{more}"
    assert reference_completion(f"{line}\n{more}") == written.split("\n")[8].strip().split(SEPARATOR)[1].strip()


def test_a_character_that_no_file_can_store_becomes_the_mark_of_one_in_the_papers_rule_too() -> None:
    assert reference_completion("a red \ud800\nand more") == "a red \ufffd"


def test_an_open_block_of_thoughts_is_refused() -> None:
    gate = Gate(GateConfig(), (), lambda text: len(text.split()) + 2)
    assert gate.judge(parse_completion("<think>A red mug."), CAPTION, False, 0) == Rejection.MARKUP_LEFT


@case(
    "Configs and secrets",
    "a rewrite with control characters (colours, a bell, a carriage return, marks that reorder text)",
    "they are removed before the gate sees the text",
)
@pytest.mark.parametrize(
    ("completion", "text"),
    [
        ("\x1b[31ma red dog\x1b[0m", "a red dog"),
        ("a \x1b]0;title\x07red dog", "a red dog"),
        ("a red dog\x07\x00\x08", "a red dog"),
        ("a red dog\rerased", "a red dog"),
        ("a red dog\u2028erased", "a red dog"),
        ("a \u202eder\u202c dog", "a der dog"),
        ("\x9b31ma red dog", "31ma red dog"),
        ('"\x1b[1ma red dog"', "a red dog"),
        ("a\tred dog", "a red dog"),
        ("a red dog \udcff", "a red dog \ufffd"),
        ("\x1b", ""),
    ],
)
def test_control_characters_of_a_completion_are_removed(completion: str, text: str) -> None:
    assert parse_completion(completion) == text
