"""Prompts are pure functions, give each pair one line, and stay intact for any caption, in every mode and template."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import tokenizers
import transformers
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.config import PromptMode, Template
from laclip_ray.errors import UserError
from laclip_ray.rewriting.prompting import prompts
from laclip_ray.rewriting.prompting.prompts import (
    CHAT_INSTRUCTION,
    INSTRUCTION,
    PAIRS_PER_HEAD,
    SEPARATOR,
    ExamplePair,
    Head,
    Messages,
    PromptSet,
    built_in_prompt_sets,
    chat_template_of,
    choose_head,
    clean_caption,
    completion_head,
    load_prompt_set,
    prompt_texts,
    template_description,
)
from laclip_ray.rewriting.prompting.thinking import closing_tag
from tests.unit.rewriting.heads_of import chat_heads, completion_heads, head_pairs

SET = PromptSet("test", "", tuple(ExamplePair(f"source {n}", f"target {n}") for n in range(9)))
TEMPLATES: tuple[Template, ...] = get_args(Template)
nasty = st.text() | st.lists(st.sampled_from(["=", ">", "=>", "-", "\n", "\r", "\u2028", " ", "a"])).map("".join)


def joined(messages: Messages) -> str:
    """The simplest chat template."""
    return "\n".join(f"{message['role']}: {message['content']}" for message in messages) + "\nassistant:"


@pytest.mark.parametrize("name", built_in_prompt_sets())
def test_a_built_in_set_loads_and_has_pairs_enough_for_varied_heads(name: str) -> None:
    prompt_set = load_prompt_set(name)
    assert prompt_set.name == name
    assert prompt_set.description
    assert len({pair.source for pair in prompt_set.pairs}) == len(prompt_set.pairs) >= 3 * PAIRS_PER_HEAD
    # Of the 3,360 heads that 16 pairs give, 32 draws may hit one twice.
    assert len({head.before for head in completion_heads(prompt_set, 32, 0)}) >= 30


def test_the_papers_four_styles_come_with_the_package() -> None:
    assert len(built_in_prompt_sets()) == 4


@given(count=st.integers(1, 40), seed=st.integers(0, 2**40))
def test_a_plain_head_is_the_instruction_and_three_distinct_pairs(count: int, seed: int) -> None:
    heads = completion_heads(SET, count, seed)
    assert len(heads) == count
    for head, pairs in zip(heads, head_pairs(SET, count, seed), strict=True):
        assert head.pairs == pairs
        assert len(set(pairs)) == PAIRS_PER_HEAD
        lines = [INSTRUCTION, "", *(f"{pair.source} => {pair.target}" for pair in pairs), ""]
        assert (head.before, head.after) == ("\n".join(lines), " =>")


@given(count=st.integers(1, 40), seed=st.integers(0, 99), template=st.sampled_from(TEMPLATES))
def test_every_kind_of_head_shows_the_pairs_that_were_drawn(count: int, seed: int, template: Template) -> None:
    drawn = head_pairs(SET, count, seed)
    assert tuple(head.pairs for head in completion_heads(SET, count, seed, template)) == drawn
    assert tuple(head.pairs for head in chat_heads(SET, count, seed, joined)) == drawn


@given(count=st.integers(1, 20), more=st.integers(1, 20), seed=st.integers(0, 99))
def test_heads_are_pure_and_more_of_them_keep_the_first(count: int, more: int, seed: int) -> None:
    assert completion_heads(SET, count + more, seed)[:count] == completion_heads(SET, count, seed)


def test_heads_differ_by_seed_and_set() -> None:
    other = PromptSet("other", "", SET.pairs)
    assert len({completion_heads(SET, 8, 0), completion_heads(SET, 8, 1), completion_heads(other, 8, 0)}) == 3


def test_every_pair_is_used() -> None:
    used = Counter(pair for pairs in head_pairs(SET, 64, 0) for pair in pairs)
    assert set(used) == set(SET.pairs)


def test_heads_are_chosen_evenly_and_purely() -> None:
    chosen = Counter(choose_head("set", str(number), 8, 0) for number in range(8_000))
    assert set(chosen) == set(range(8))
    # Binomial(8000, 1/8): five standard deviations are 148.
    assert all(abs(count - 1_000) < 148 for count in chosen.values())


@given(ids=st.lists(st.text(), unique=True), count=st.integers(1, 40), data=st.data())
def test_a_samples_head_depends_on_no_other_sample(ids: list[str], count: int, data: st.DataObject) -> None:
    chosen = {sample_id: choose_head("set", sample_id, count, 0) for sample_id in ids}
    some = data.draw(st.permutations(ids).map(lambda order: order[: len(order) // 2 + 1]))
    assert {sample_id: choose_head("set", sample_id, count, 0) for sample_id in some} == {i: chosen[i] for i in some}
    assert all(0 <= head < count for head in chosen.values())


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


@given(caption=nasty, template=st.sampled_from(TEMPLATES))
def test_a_completion_prompt_is_its_head_and_one_line_for_the_caption(caption: str, template: Template) -> None:
    head = completion_head(SET.pairs[:PAIRS_PER_HEAD], template)
    prompt = head.prompt(caption)
    assert prompt.startswith(head.before)
    assert prompt.removeprefix(head.before) == f"{clean_caption(caption)} {SEPARATOR}"
    assert len(prompt.splitlines()) == head.before.count("\n") + 1
    assert prompt.count(SEPARATOR) == PAIRS_PER_HEAD + 1


@given(caption=nasty, template=st.sampled_from([*TEMPLATES, None]))
def test_the_caption_can_be_read_back_from_its_prompt(caption: str, template: Template | None) -> None:
    heads = chat_heads(SET, 3, 0, joined) if template is None else completion_heads(SET, 3, 0, template)
    for head in heads:
        prompt = head.prompt(caption)
        assert prompt.removeprefix(head.before).removesuffix(head.after) == clean_caption(caption)


def test_the_reference_template_is_that_of_the_papers_code_to_the_byte() -> None:
    pairs = tuple(ExamplePair(f"s{number}", f"t{number}") for number in (1, 2, 3))
    expected = (
        b"write image captions differently,\n"
        b"\n"
        b"            s1 => t1\n"
        b"\n"
        b"            s2 => t2\n"
        b"\n"
        b"            s3 => t3\n"
        b"\n"
        b"            a red mug =>"
    )
    prompt = completion_head(pairs, "reference").prompt("a red mug\n")
    assert prompt.encode() == expected
    # That code finds the rewrite by splitting the text at line breaks and taking line 8, counted from 0.
    assert f"{prompt} A mug.\n\n".split("\n")[8].split("=>")[1].strip() == "A mug."


@given(pairs=st.lists(st.builds(ExamplePair, *[st.text("abc <'.é", min_size=1)] * 2), min_size=3, max_size=3))
def test_a_reference_prompt_alternates_blank_lines_and_indented_pairs(pairs: list[ExamplePair]) -> None:
    instruction, *lines = completion_head(tuple(pairs), "reference").prompt("caption").split("\n")
    assert instruction == "write image captions differently,"
    assert lines[0::2] == [""] * 4
    assert lines[1::2] == [*(f"{' ' * 12}{pair.source} => {pair.target}" for pair in pairs), f"{' ' * 12}caption =>"]


TURNS = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ CONTENT }}<|im_end|>\n{% endfor %}"
THINKING = (
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
ALTERNATE = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}"
)


def turns(content: str) -> str:
    return TURNS.replace("CONTENT", content)


def chat_template(template: str | None) -> Callable[[Messages], str]:
    core = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))  # noqa: S106
    tokenizer: Any = transformers.PreTrainedTokenizerFast(tokenizer_object=core)
    tokenizer.chat_template = template
    return chat_template_of(tokenizer)


def turn(role: str, content: str) -> str:
    return f"<|im_start|>{role}\n{content}<|im_end|>\n"


def example_turns(head: Head) -> str:
    return "".join(turn("user", pair.source) + turn("assistant", pair.target) for pair in head.pairs)


@pytest.mark.parametrize("content", ["m['content']", "m['content'] | trim", "'  ' + m['content'] + '  ' | trim"])
def test_a_chat_is_the_system_text_the_pairs_as_turns_and_the_caption_with_thinking_off(content: str) -> None:
    heads = chat_heads(SET, 4, 0, chat_template(turns("m['content']") + THINKING))
    for head in heads:
        assert head.prompt(" a\nred => mug") == (
            turn("system", CHAT_INSTRUCTION)
            + example_turns(head)
            + turn("user", "a red -> mug")
            + "<|im_start|>assistant\n<think>\n\n</think>\n\n"
        )
    trimmed = chat_heads(SET, 4, 0, chat_template(turns(content) + THINKING))
    assert [head.prompt("x").replace(" ", "") for head in trimmed] == [
        head.prompt("x").replace(" ", "") for head in heads
    ]


def test_pairs_with_outer_spaces_suit_a_template_that_trims() -> None:
    spaced = PromptSet("spaced", "", tuple(ExamplePair(f" s{n} ", f"t{n} ") for n in range(3)))
    (head,) = chat_heads(spaced, 1, 0, chat_template(turns("m['content'] | trim")))
    assert turn("user", head.pairs[0].source.strip()) in head.before


@given(caption=nasty)
def test_a_chat_prompt_is_what_the_template_makes_of_the_cleaned_caption(caption: str) -> None:
    (head,) = chat_heads(SET, 1, 0, joined)
    turns_of_head = [text for pair in head.pairs for text in (pair.source, pair.target)]
    roles = ["system", *["user", "assistant"] * PAIRS_PER_HEAD, "user"]
    contents = [CHAT_INSTRUCTION, *turns_of_head, clean_caption(caption)]
    messages = [{"role": role, "content": text} for role, text in zip(roles, contents, strict=True)]
    assert head.prompt(caption) == joined(messages)


@pytest.mark.parametrize(
    "template",
    [
        NO_SYSTEM + ALTERNATE + turns("m['content'] | trim") + THINKING,
        ALTERNATE + turns("m['content']") + THINKING,
        turns("m['content']").replace("{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}")
        + THINKING,
    ],
    ids=["refuses a system turn", "wants turns to alternate", "drops a system turn silently"],
)
def test_a_template_without_a_place_for_a_system_text_has_it_in_the_first_user_turn(template: str) -> None:
    for head in chat_heads(SET, 4, 0, chat_template(template)):
        first = head.pairs[0].source
        prompt = head.prompt("a mug")
        assert prompt.startswith(turn("user", f"{CHAT_INSTRUCTION}\n\n{first}"))
        assert prompt.replace(f"{CHAT_INSTRUCTION}\n\n", "", 1).startswith(example_turns(head) + turn("user", "a mug"))
        assert prompt.endswith("</think>\n\n")


ASSISTANT = "<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("prompt_end", "closed"),
    [
        ("<think>\n", "<think>\n\n</think>\n\n"),
        ("<think>", "<think></think>"),
        ("<think>\n\n</think>\n\n", "<think>\n\n</think>\n\n"),
        ("</think>", "</think>"),
        ("<seed:think>", "<seed:think></seed:think>"),
        ("[THINK]", "[THINK][/THINK]"),
        ("<|START_THINKING|>", "<|START_THINKING|><|END_THINKING|>"),
        ("<|channel>thought\n", "<|channel>thought\n\n<channel|>\n\n"),
        ("\u25c1think\u25b7", "\u25c1think\u25b7\u25c1/think\u25b7"),
        ("<my_thoughts>\n", "<my_thoughts>\n\n</my_thoughts>\n\n"),
        ("", ""),
    ],
)
def test_a_head_ends_in_no_open_block_of_thoughts(prompt_end: str, closed: str) -> None:
    template = turns("m['content']") + f"{{{{ {ASSISTANT + prompt_end!r} }}}}"
    (head,) = chat_heads(SET, 1, 0, chat_template(template))
    assert head.after == f"<|im_end|>\n{ASSISTANT}{closed}"
    assert closing_tag(head.after) is None


def test_a_head_ends_where_the_answers_of_its_examples_begin() -> None:
    channel = "{{ '<|channel|>final<|message|>' if m['role'] == 'assistant' else '' }}"
    template = turns("m['content']").replace("\n{{ m['content']", "\n" + channel + "{{ m['content']")
    (head,) = chat_heads(SET, 1, 0, chat_template(f"{template}{{{{ {ASSISTANT!r} }}}}"))
    assert head.after == f"<|im_end|>\n{ASSISTANT}<|channel|>final<|message|>"
    assert head.before.count("<|channel|>final<|message|>target") == PAIRS_PER_HEAD


alike = st.builds(ExamplePair, *[st.text("ab <>", min_size=1).filter(str.strip)] * 2)


@given(pairs=st.lists(alike, min_size=3, max_size=3))
def test_examples_that_repeat_one_another_change_no_end(pairs: list[ExamplePair]) -> None:
    template = chat_template(turns("m['content']") + THINKING)
    assert prompts.chat_head(tuple(pairs), template).after.endswith("assistant\n<think>\n\n</think>\n\n")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (turns("m['content'] | upper"), "drops or alters a turn of the role 'user'"),
        (turns("m['content'] | tojson"), "drops or alters a turn of the role 'user'"),
        (turns("m['content'] | e"), "drops or alters a turn of the role 'user'"),
        (turns("m['content'][:20]"), "drops or alters a turn of the role 'user'"),
        ("{{ messages[0]['content'] }}", "drops or alters a turn of the role 'user'"),
        ("{{ messages[-1]['content'] }}", "drops or alters a turn of the role 'assistant'"),
        (turns("m['content']") + "{{ messages[-1]['content'] }}", "shows the caption more than once"),
        ("{{ raise_exception('not today') }}", "refuses the conversation: not today"),
        ("{% for", "refuses the conversation"),
        ("{% for tool in 1 %}{% endfor %}", "refuses the conversation: 'int' object is not iterable"),
        (None, "applies no chat template; use rewrite.mode=completion"),
    ],
)
def test_a_template_that_does_not_show_the_caption_as_it_is_is_refused(template: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        chat_heads(SET, 2, 0, chat_template(template))


def test_the_instructions_in_use_are_those_in_the_prompts() -> None:
    for template in TEMPLATES:
        (text,) = prompt_texts("completion", template)
        assert completion_heads(SET, 1, 0, template)[0].before.startswith(f"{text}\n\n")
        assert prompt_texts("chat", template) == (CHAT_INSTRUCTION,)


def test_descriptions_differ_by_mode_and_template_and_are_json() -> None:
    modes: tuple[tuple[PromptMode, Template], ...] = (
        ("completion", "plain"),
        ("completion", "reference"),
        ("chat", "plain"),
    )
    described = [json.dumps(template_description(mode, template)) for mode, template in modes]
    assert len(set(described)) == 3
    assert [json.loads(text) for text in described] == [
        template_description(mode, template) for mode, template in modes
    ]


@pytest.mark.parametrize(
    ("attribute", "value", "changed"),
    [
        ("INSTRUCTION", "Other.", {"completion plain"}),
        ("REFERENCE_INSTRUCTION", "other,", {"completion reference"}),
        ("REFERENCE_INDENT", "\t", {"completion reference"}),
        ("SEPARATOR", "->>", {"completion plain", "completion reference", "chat plain"}),
        ("PAIRS_PER_HEAD", 4, {"completion plain", "completion reference", "chat plain"}),
        ("CHAT_INSTRUCTION", "Other.", {"chat plain"}),
        ("CHAT_TEMPLATE_SETTINGS", {"enable_thinking": True}, {"chat plain"}),
        ("clean_caption", str.strip, {"completion plain", "completion reference", "chat plain"}),
    ],
)
def test_a_change_of_format_changes_the_description_of_what_it_is_part_of(
    attribute: str, value: object, changed: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: dict[str, tuple[PromptMode, Template]] = {
        "completion plain": ("completion", "plain"),
        "completion reference": ("completion", "reference"),
        "chat plain": ("chat", "plain"),
    }
    before = {kind: template_description(*arguments) for kind, arguments in kinds.items()}
    monkeypatch.setattr(prompts, attribute, value)
    after = {kind: template_description(*arguments) for kind, arguments in kinds.items()}
    assert {kind for kind in kinds if before[kind] != after[kind]} == changed


PAIRS = "".join(f"- {{source: s{n}, target: t{n}}}\n" for n in range(3))


def test_a_set_is_read_from_a_file_and_named_after_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"pairs:\n{PAIRS}", encoding="utf-8")
    assert load_prompt_set(str(path)) == PromptSet("mine", "", tuple(ExamplePair(f"s{n}", f"t{n}") for n in range(3)))
    path.write_text(f"name: other\ndescription: words\npairs:\n{PAIRS}", encoding="utf-8")
    assert (load_prompt_set(str(path)).name, load_prompt_set(str(path)).description) == ("other", "words")


def test_the_texts_of_a_file_are_kept_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f'pairs:\n{PAIRS}- {{source: "a  b. ", target: \' "c"\'}}\n', encoding="utf-8")
    assert load_prompt_set(str(path)).pairs[-1] == ExamplePair("a  b. ", ' "c"')


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
        (f'pairs:\n{PAIRS}- {{source: a, target: "b\\Lc"}}', r"pairs\[3\] holds a line break"),
        (f'pairs:\n{PAIRS}- {{source: a, target: "b\\r"}}', r"pairs\[3\] holds a line break"),
        ("pairs:\n- {source: a, target: b}", "1 pairs, at least 3 are needed"),
        (
            "pairs:\n" + "- {source: a, target: b, group: 1}\n" * 5 + "- {source: a, target: b}",
            "2 groups of pairs, at least 3 are needed",
        ),
        (
            f"pairs:\n{PAIRS}- {{source: a, target: b, group: x}}",
            r"pairs\[3\]: `group` must be a whole number, got 'x'",
        ),
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
    with pytest.raises(UserError, match=r"'nosuch' is neither a built-in prompt set \(.*cleaned.*\)"):
        load_prompt_set("nosuch")


def test_the_earlier_name_of_a_built_in_set_is_refused_with_its_new_name() -> None:
    with pytest.raises(UserError, match=r"the built-in set 'human' is called 'cleaned' now; write cleaned"):
        load_prompt_set("human")
