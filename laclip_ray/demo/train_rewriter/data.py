"""Training data of the demo's rewriter: its tokenizer, and prompts packed into sequences.

Many alt-texts share one head in a packed sequence. Each attends only to the head and to itself, at the positions of a
separate prompt, so a packed sequence trains exactly like separate prompts.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from laclip_ray.demo.language import STYLES, rewrite_pair
from laclip_ray.demo.scenes import draw_scene
from laclip_ray.randomness import Key, permutation
from laclip_ray.rewriting.prompting.prompts import INSTRUCTION, PAIRS_PER_HEAD, Head, PromptSet, completion_head

END_TOKEN = "<|end|>"  # noqa: S105
POSITIONS_MAX = 1024
"""Bound on the length of a prompt with its rewrite, in tokens."""
IGNORED_LABEL = -100
"""Label of tokens that the loss skips, as in transformers' models."""
HELD_OUT = "held out"
TRAINING = "training"
NO_HEAD = Head((), "", completion_head(()).after)
"""Formats the part of a prompt after the head."""


@dataclass(frozen=True)
class Packed:
    """One head and many continuations, as tokens of one sequence.

    Tensors are `[T]`. `visible` is `[T, T]`: whether a token (row) attends to another (column).
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    labels: torch.Tensor
    visible: torch.Tensor


def world_pair(split: str, style: str, *keys: Key) -> tuple[str, str]:
    """Draw (alt-text, rewrite) of a scene of `split`. Splits have different scenes, but texts may coincide."""
    return rewrite_pair(draw_scene("rewriter", split, *keys), style, "rewriter", split, *keys)


def random_head(prompt_set: PromptSet, *keys: Key) -> Head:
    """Build a head with three random pairs of `prompt_set`."""
    order = permutation(len(prompt_set.pairs), "random head", *keys)
    return completion_head(tuple(prompt_set.pairs[pair] for pair in order[:PAIRS_PER_HEAD]))


def train_tokenizer(prompt_sets: list[PromptSet], vocabulary_size: int, seed: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE on the texts of prompts and of the world. It can encode every text.

    Line breaks and digits are always separate tokens, so the tokens of a prompt are the head's tokens followed by the
    tokens of the rest.
    """

    def texts() -> Iterator[str]:
        for _ in range(40):
            yield INSTRUCTION
            for prompt_set in prompt_sets:
                for pair in prompt_set.pairs:
                    yield f"{pair.source} => {pair.target}"
        for index in range(6000):
            source, target = world_pair("tokenizer", STYLES[index % len(STYLES)], seed, index)
            yield f"{source} => {target}"

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("\n", "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[END_TOKEN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(texts(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=END_TOKEN,
        pad_token=END_TOKEN,
        model_max_length=POSITIONS_MAX,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def pack(head: list[int], continuations: list[tuple[list[int], list[int]]]) -> Packed:
    """Pack `head` and every (caption tokens, target tokens) into one sequence that trains like separate prompts.

    A token's label is the next token if that belongs to a target.
    """
    tokens, positions, labels, groups = (
        list(head),
        list(range(len(head))),
        [IGNORED_LABEL] * len(head),
        [0] * len(head),
    )
    for group, (caption, target) in enumerate(continuations, start=1):
        assert caption, "every caption has the separator"
        assert target, "every target has the line break"
        text = [*caption, *target]
        tokens += text
        positions += range(len(head), len(head) + len(text))
        labels += [IGNORED_LABEL] * (len(caption) - 1) + target + [IGNORED_LABEL]
        groups += [group] * len(text)
    group_of = torch.tensor(groups)
    same = (group_of[:, None] == group_of[None, :]) | (group_of[None, :] == 0)
    return Packed(torch.tensor(tokens), torch.tensor(positions), torch.tensor(labels), same.tril())


def collate(sequences: list[Packed]) -> dict[str, torch.Tensor]:
    """The model's inputs for a batch, padded on the right. Padding attends only to itself and has no labels.

    `labels` are already shifted: position t must predict `labels[b, t]`.
    """
    length = max(len(sequence.tokens) for sequence in sequences)
    count = len(sequences)
    tokens = torch.zeros(count, length, dtype=torch.long)
    positions = torch.zeros(count, length, dtype=torch.long)
    labels = torch.full((count, length), IGNORED_LABEL)
    visible = torch.eye(length, dtype=torch.bool).repeat(count, 1, 1)
    for row, sequence in enumerate(sequences):
        size = len(sequence.tokens)
        tokens[row, :size], positions[row, :size] = sequence.tokens, sequence.positions
        labels[row, :size], visible[row, :size, :size] = sequence.labels, sequence.visible
    return {
        "input_ids": tokens,
        "position_ids": positions,
        "labels": labels,
        "attention_mask": visible[:, None],
    }


def _encode(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[list[int]]:
    tokens: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return tokens


def pack_texts(tokenizer: PreTrainedTokenizerFast, head: Head, pairs: list[tuple[str, str]]) -> Packed:
    """Tokenize and pack `head` and (caption, rewrite) pairs."""
    captions = [NO_HEAD.prompt(source) for source, _ in pairs]
    targets = [f" {target}\n" for _, target in pairs]
    head_tokens, *rest = _encode(tokenizer, [head.before, *captions, *targets])
    end: int = tokenizer.eos_token_id
    continuations = [
        (caption, [*target, end]) for caption, target in zip(rest[: len(pairs)], rest[len(pairs) :], strict=True)
    ]
    return pack(head_tokens, continuations)
