"""Completions of a base model stop at their line; a chat stops with its turn, and shows the end of its thoughts."""

from typing import Any

import pytest
import tokenizers
import transformers

from laclip_ray.rewriting.prompting.stops import Stops, stops_of

TURNS = "{% for m in messages %}START{{ m['role'] }}\n{{ m['content'] }}END\n{% endfor %}START assistant\n"


def tokenizer(template: str | None, special: tuple[str, ...] = (), added: tuple[str, ...] = ()) -> Any:
    core = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))  # noqa: S106
    made: Any = transformers.PreTrainedTokenizerFast(tokenizer_object=core)
    made.add_tokens([tokenizers.AddedToken(token, special=True) for token in special], special_tokens=True)
    made.add_tokens(list(added))
    made.chat_template = template
    return made


def test_a_base_model_stops_at_the_line_break_and_at_the_separator() -> None:
    assert stops_of("completion", tokenizer(None)) == Stops(strings=("\n", "=>"))


@pytest.mark.parametrize("special", [True, False])
def test_a_chat_stops_at_the_token_that_ends_an_answer_in_its_template(special: bool) -> None:
    tokens = ("<|user|>", "<|end|>")
    template = TURNS.replace("END", "<|end|>").replace("START", "<|user|>")
    made = tokenizer(template, special=tokens) if special else tokenizer(template, added=tokens)
    assert stops_of("chat", made) == Stops(token_ids=(made.convert_tokens_to_ids("<|end|>"),))


def test_a_chat_without_such_a_token_stops_at_the_text_before_the_next_caption() -> None:
    template = "{% for m in messages %}{{ m['role'] | title }}: {{ m['content'] }}\n\n{% endfor %}Assistant:"
    assert stops_of("chat", tokenizer(template)) == Stops(strings=("\n\nUser:",))


@pytest.mark.parametrize(
    "template", [None, "{{ raise_exception('no') }}", "{{ messages[-1]['content'] }}", "{{ messages[1]['content'] }}"]
)
def test_a_template_that_does_not_show_the_end_of_a_turn_adds_no_stop(template: str | None) -> None:
    assert stops_of("chat", tokenizer(template)) == Stops()


@pytest.mark.parametrize("tag", ["[/THINK]", "<|END_THINKING|>", "</think>", "<|message|>"])
def test_special_tokens_are_shown_if_thoughts_end_in_one(tag: str) -> None:
    template = TURNS.replace("END", "<|end|>").replace("START", "<|user|>")
    assert not stops_of("chat", tokenizer(template, special=("<|end|>", tag))).hides_special_tokens
    assert stops_of("chat", tokenizer(template, special=("<|end|>",), added=(tag,))).hides_special_tokens
