"""Control tokens spelled out in a caption are encoded as text, by every kind of tokenizer."""

import re
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerFast

from laclip_ray.config import PromptMode
from laclip_ray.rewriting.prompting.literal_tokens import PromptEncoder
from laclip_ray.rewriting.prompting.prompts import ExamplePair, Prompt, chat_head, completion_head, load_prompt_set
from laclip_ray.rewriting.recipe import model_directory
from tests.cases import case

SPECIAL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|endoftext|>", "s>", "<<|im"]
"""`s>` lies inside `</s>`, and `<<|im` overlaps with `<|im_end|>`."""
MARKUP = ["<think>", "</think>", "[INST]"]
"""Added tokens that are not special."""
TEXTS = ["a cup on a table => the red cup", "assistant user think inst end of text", "<|/>[] => <im_s|>"] * 3


@cache
def byte_level() -> Any:
    """As GPT-2, Llama 3 and Qwen have it. It adds a special token before each text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet)
    return _finished(tokenizer, trainer)


BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


@cache
def sentence_piece() -> Any:
    """As Llama 2 has it: each text gets a space in front, and a byte that no token has is a token of its own."""
    merges = [("<", "/"), ("▁", "a"), ("c", "u"), ("s", ">"), ("</", "s>")]
    tokens = ["<unk>", *SPECIAL, *BYTES, *"▁abcdefimnostux<>/|[]=", "</", "▁a", "cu"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token=tokens[0], byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return _finished(tokenizer, None)


@cache
def unigram() -> Any:
    """As T5 has it: special tokens are pieces of the model, with the best score."""
    pieces = [*((token, 0.0) for token in SPECIAL), *((piece, -3.0) for piece in ("▁", "▁a", "cup", *"cups<>/|[]"))]
    vocabulary = [("<unk>", -9.0), *dict(pieces).items(), *((byte, -9.0) for byte in BYTES)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, 0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return _finished(tokenizer, None)


@cache
def lower_case() -> Any:
    """It looks for added tokens in lower-case text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet)
    return _finished(tokenizer, trainer, normalized=True)


def _finished(tokenizer: Tokenizer, trainer: Any, normalized: bool = False) -> Any:
    if trainer is not None:
        tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in SPECIAL])
    tokenizer.add_tokens([AddedToken(text, normalized=normalized) for text in MARKUP])
    tokenizer.add_tokens([AddedToken("ü", normalized=False)])  # a character of ordinary text
    start = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", start)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")  # noqa: S106


@cache
def python_bytes() -> Any:
    """A tokenizer in Python, without the tokenizers library. It adds a special token after each text."""
    return ByT5Tokenizer()


@cache
def demo() -> Any:
    """The demo rewriter's."""
    return AutoTokenizer.from_pretrained(model_directory("demo-rewriter"))


KINDS = {
    "byte-level BPE": byte_level,
    "BPE with byte fallback": sentence_piece,
    "unigram": unigram,
    "lower case": lower_case,
    "bytes in Python": python_bytes,
    "demo rewriter": demo,
}
MODES: tuple[PromptMode, ...] = ("completion", "chat")
PAIRS = load_prompt_set("cleaned").pairs[:3]
CONTROL = ["<|end|>", "<extra_id_0>", "<pad>", *SPECIAL, *MARKUP]
"""Including the demo rewriter's and ByT5's."""
captions = st.lists(
    st.sampled_from([*CONTROL, "<", "|im_end", ">", "</", "s", " ", "a cup", "im", "<THINK>", "</S>"]), min_size=1
).map("".join)


def control_tokens(tokenizer: Any) -> dict[str, int]:
    """The ids of a tokenizer's control tokens."""
    known = [token for token in CONTROL if token in tokenizer.get_vocab()]
    return {token: tokenizer.convert_tokens_to_ids(token) for token in {*known, *tokenizer.all_special_tokens}}


def prompt_of(caption: str, mode: PromptMode) -> Prompt:
    """A prompt with a caption, and for chat with control tokens around it."""
    if mode == "completion":
        return completion_head(PAIRS).prompt(caption)
    return Prompt("<|im_start|>user\n", caption, "<|im_end|>\n<think>\n")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
@given(caption=captions)
def test_only_the_fixed_parts_give_control_tokens_and_the_text_is_kept(
    kind: str, mode: PromptMode, caption: str
) -> None:
    tokenizer, special = KINDS[kind](), mode == "completion"
    prompt, bare = prompt_of(caption, mode), prompt_of("", mode)
    encoded = PromptEncoder(tokenizer, mode).encode(prompt)
    ids = tokenizer.encode(encoded, add_special_tokens=special) if isinstance(encoded, str) else encoded
    control = control_tokens(tokenizer)
    of_fixed_parts = [each for each in tokenizer.encode(bare, add_special_tokens=special) if each in control.values()]
    assert [each for each in ids if each in control.values()] == of_fixed_parts
    text = tokenizer.decode([each for each in ids if each not in control.values()])
    fixed = re.compile("|".join(map(re.escape, control)))
    expected = fixed.sub("", prompt.before) + prompt.caption + fixed.sub("", prompt.after)
    assert comparable(text, kind) == comparable(expected, kind)


def comparable(text: str, kind: str) -> str:
    """The text as far as a tokenizer keeps it."""
    if kind == "lower case":
        text = text.lower()
    if kind in ("unigram", "BPE with byte fallback"):  # they put a space behind each control token
        text = re.sub(" +\n", "\n", text).lstrip()
    return text


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("caption", ["a cup", "über <b>uns</b>", "5 < 6 > 4 | <PERSON> [red]", "im_end s <|", ""])
def test_an_ordinary_caption_is_encoded_as_the_engine_does_it(kind: str, mode: PromptMode, caption: str) -> None:
    tokenizer = KINDS[kind]()
    prompt = prompt_of(caption, mode)
    expected = str(prompt) if mode == "completion" else tokenizer.encode(prompt, add_special_tokens=False)
    assert PromptEncoder(tokenizer, mode).encode(prompt) == expected


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(text, marks=case("Configs and secrets", f"a caption with `{text}`", "the model sees it as text"))
        for text in ("<|im_end|>", "</s>", "<|endoftext|>", "<think>", "[INST]")
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_a_control_token_in_a_caption_is_text(text: str, mode: PromptMode) -> None:
    tokenizer = byte_level()
    prompt = prompt_of(f"a cup {text} on a table", mode)
    ids = PromptEncoder(tokenizer, mode).encode(prompt)
    assert isinstance(ids, list)
    assert ids.count(tokenizer.convert_tokens_to_ids(text)) == str(prompt_of("", mode)).count(text)
    assert text in tokenizer.decode(ids, skip_special_tokens=False).removeprefix("<s>").partition("a cup")[2]


def test_the_fixed_parts_of_a_chat_keep_their_control_tokens() -> None:
    tokenizer = byte_level()

    def template(messages: list[dict[str, str]]) -> str:
        return "".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in messages)

    pairs = tuple(ExamplePair(f"source {n}", f"target {n}") for n in range(3))
    head = chat_head(pairs, template)
    ids = PromptEncoder(tokenizer, "chat").encode(head.prompt("end it <|im_end|> now"))
    assert isinstance(ids, list)
    turns = 1 + 2 * len(pairs) + 1
    # The head begins the answer's turn.
    assert ids.count(tokenizer.convert_tokens_to_ids("<|im_start|>")) == turns + 1
    assert ids.count(tokenizer.convert_tokens_to_ids("<|im_end|>")) == turns
