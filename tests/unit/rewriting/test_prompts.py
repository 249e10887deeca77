"""Prompts are pure, one line a pair, and safe from whatever a caption holds."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.errors import UserError
from laclip_ray.rewriting.prompts import (
    INSTRUCTION,
    PAIRS_PER_HEAD,
    SEPARATOR,
    ExamplePair,
    PromptSet,
    build_head,
    build_heads,
    build_prompt,
    built_in_prompt_sets,
    choose_head,
    clean_caption,
    head_pairs,
    load_prompt_set,
    parse_completion,
)

SET = PromptSet("test", "", tuple(ExamplePair(f"source {n}", f"target {n}") for n in range(9)))
nasty = st.text() | st.lists(st.sampled_from(["=", ">", "=>", "-", "\n", "\r", "\u2028", " ", "a"])).map("".join)


@pytest.mark.parametrize("name", built_in_prompt_sets())
def test_a_built_in_set_loads_and_has_pairs_enough_for_varied_heads(name: str) -> None:
    prompt_set = load_prompt_set(name)
    assert prompt_set.name == name
    assert prompt_set.description
    assert len({pair.source for pair in prompt_set.pairs}) == len(prompt_set.pairs) >= 3 * PAIRS_PER_HEAD
    assert len(set(build_heads(prompt_set, 32, 0))) == 32


def test_the_papers_four_styles_come_with_the_package() -> None:
    assert len(built_in_prompt_sets()) == 4


@given(count=st.integers(1, 40), seed=st.integers(0, 2**40))
def test_a_head_is_the_instruction_and_three_distinct_pairs(count: int, seed: int) -> None:
    heads = build_heads(SET, count, seed)
    assert len(heads) == count
    for head, pairs in zip(heads, head_pairs(SET, count, seed), strict=True):
        assert len(set(pairs)) == PAIRS_PER_HEAD
        assert head == build_head(pairs)
        lines = head.splitlines()
        assert lines[0] == INSTRUCTION
        assert lines[2:] == [f"{pair.source} {SEPARATOR} {pair.target}" for pair in pairs]
        assert head.endswith("\n")


@given(count=st.integers(1, 20), more=st.integers(1, 20), seed=st.integers(0, 99))
def test_heads_are_pure_and_more_of_them_keep_the_first(count: int, more: int, seed: int) -> None:
    assert build_heads(SET, count + more, seed)[:count] == build_heads(SET, count, seed)


def test_heads_differ_by_seed_and_set() -> None:
    other = PromptSet("other", "", SET.pairs)
    assert len({build_heads(SET, 8, 0), build_heads(SET, 8, 1), build_heads(other, 8, 0)}) == 3


def test_every_pair_is_used() -> None:
    used = Counter(pair for pairs in head_pairs(SET, 64, 0) for pair in pairs)
    assert set(used) == set(SET.pairs)


def test_heads_are_chosen_evenly_and_purely() -> None:
    chosen = Counter(choose_head("set", str(number), 8, 0) for number in range(8_000))
    assert set(chosen) == set(range(8))
    # Binomial(8000, 1/8): five standard deviations are 148.
    assert all(abs(count - 1_000) < 148 for count in chosen.values())
    assert choose_head("set", "a", 8, 0) == choose_head("set", "a", 8, 0)


@given(caption=nasty)
def test_a_clean_caption_is_one_line_without_the_separator(caption: str) -> None:
    clean = clean_caption(caption)
    assert SEPARATOR not in clean
    assert len(clean.splitlines()) <= 1
    assert clean == clean.strip()
    assert "  " not in clean
    assert clean_caption(clean) == clean


@given(caption=st.text(st.characters(categories=["L", "N", "P"])).filter(lambda text: SEPARATOR not in text))
def test_an_ordinary_caption_stays_as_it_is(caption: str) -> None:
    assert clean_caption(caption) == caption


@given(caption=nasty)
def test_a_prompt_is_its_head_and_one_line_for_the_caption(caption: str) -> None:
    head = build_head(SET.pairs[:PAIRS_PER_HEAD])
    prompt = build_prompt(head, caption)
    assert prompt == f"{head}{clean_caption(caption)} {SEPARATOR}"
    assert len(prompt.splitlines()) == len(head.splitlines()) + 1
    assert prompt.count(SEPARATOR) == PAIRS_PER_HEAD + 1


@given(before=st.sampled_from(["", " ", "\n", " \n "]), text=st.text(st.characters(categories=["L", "N"]), min_size=1))
def test_the_rewrite_is_the_first_line_that_the_model_wrote(before: str, text: str) -> None:
    assert parse_completion(f"{before}{text} \nnext => line\n") == text


@pytest.mark.parametrize("completion", ["", " ", "\n\n"])
def test_a_model_that_wrote_nothing_gives_an_empty_rewrite(completion: str) -> None:
    assert parse_completion(completion) == ""


PAIRS = "".join(f"- {{source: s{n}, target: t{n}}}\n" for n in range(3))


def test_a_set_is_read_from_a_file_and_named_after_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"pairs:\n{PAIRS}", encoding="utf-8")
    assert load_prompt_set(str(path)) == PromptSet("mine", "", tuple(ExamplePair(f"s{n}", f"t{n}") for n in range(3)))
    path.write_text(f"name: other\ndescription: words\npairs:\n{PAIRS}", encoding="utf-8")
    assert (load_prompt_set(str(path)).name, load_prompt_set(str(path)).description) == ("other", "words")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a", "not readable as YAML"),
        ("3", "expected a mapping with a list `pairs`"),
        ("pairs: {}", "expected a mapping with a list `pairs`"),
        (f"name: a/b\npairs:\n{PAIRS}", "`name` must be"),
        (f"name: 3\npairs:\n{PAIRS}", "`name` must be"),
        (f"pairs:\n{PAIRS}- {{source: a}}", r"pairs\[3\] needs a text"),
        (f"pairs:\n{PAIRS}- {{source: a, target: ' '}}", r"pairs\[3\] needs a text"),
        (f"pairs:\n{PAIRS}- word", r"pairs\[3\] needs a text"),
        (f"pairs:\n{PAIRS}- {{source: a => b, target: c}}", r"pairs\[3\] holds a line break or '=>'"),
        (f'pairs:\n{PAIRS}- {{source: "a\\nb", target: c}}', r"pairs\[3\] holds a line break"),
        ("pairs:\n- {source: a, target: b}", "1 pairs, at least 3 are needed"),
    ],
)
def test_a_file_that_holds_no_set_is_refused_with_the_part_that_is_wrong(
    text: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        load_prompt_set(str(path))


def test_an_unknown_set_is_refused_with_those_there_are() -> None:
    with pytest.raises(UserError, match=r"'nosuch' is neither a built-in prompt set \(.*human.*\)"):
        load_prompt_set("nosuch")
