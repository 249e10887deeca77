"""Count the tokens that rewriting a dataset will take, from a sample of its captions.

The captions are sampled by hash and put into their real prompts, which the model's own tokenizer counts. Output tokens
are assumed: the example pairs of a prompt set show how much longer its rewrites are than the captions.

Guarantees: the counts are a function of the data, the configuration and the tokenizer.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from laclip_ray.config import DataConfig, RewriteConfig
from laclip_ray.data.records import Shard, ShardUnreadableError
from laclip_ray.data.shards import read_samples
from laclip_ray.errors import UserError
from laclip_ray.randomness import hash64
from laclip_ray.rewriting.draws import describe_samples
from laclip_ray.rewriting.engines.arguments import GPU_BLOCK_TOKENS
from laclip_ray.rewriting.engines.heads import shared_tokens
from laclip_ray.rewriting.prompting.prompts import Head, PromptSet, choose_head
from laclip_ray.rewriting.tables import DRAWN

SAMPLED_SHARDS = 8

SAMPLED_CAPTIONS = 400
"""A few hundred captions give their mean length to a few per cent, better than any other assumption here."""

REJECTED_SHARE = 0.1
"""Assumed share of draws that the gate rejects. The summary of a run has the true share."""


@dataclass(frozen=True)
class CaptionSample:
    """Captions of a few shards."""

    shards: int
    """Shards read, each completely."""
    rows: int
    """Samples in these shards."""
    distinct: int
    """Usable captions, each counted once per shard."""
    captions: tuple[tuple[str, str], ...]
    """(id, caption) of some of the distinct captions."""
    shard_names: tuple[str, ...] = ()
    """The shard of each of `captions`."""
    listed_rows: int | None = None
    """Rows of these shards as they are listed; None if the list does not tell. A row with a list of captions is several
    samples (`data.captions: all`)."""
    not_rewritten: Mapping[str, int] = field(default_factory=dict)
    """Samples of these shards that no engine is asked for, by the reason that a run records."""


@dataclass(frozen=True)
class SetTokens:
    """Expected requests and tokens of one prompt set."""

    prompt_set: str
    requests: int
    """Prompts sent to engines: one for each distinct caption of a shard, plus the prompts of redraws."""
    prompt_tokens: int
    cached_tokens: int
    """Prompt tokens from the prefix cache: the whole blocks of the heads."""
    output_tokens: int
    """Assumed, see `expansion`."""
    expansion: float
    """Output tokens per caption token: targets over sources of the set's pairs, by the model's tokenizer."""

    @property
    def computed_tokens(self) -> int:
        """Prompt tokens that the engine computes."""
        return self.prompt_tokens - self.cached_tokens


def sample_captions(
    shards: Sequence[Shard],
    data: DataConfig,
    rewrite: RewriteConfig,
    seed: int,
    shard_count: int = SAMPLED_SHARDS,
    caption_count: int = SAMPLED_CAPTIONS,
) -> CaptionSample:
    """Draw captions by hash from shards drawn by hash. The shards are read completely, without images.

    Only captions that would be rewritten are drawn, each text once per shard, as in rewriting.

    Raises:
        UserError: a shard cannot be read.
    """
    readable = (shard for shard in shards if not shard.defect)
    chosen = heapq.nsmallest(shard_count, readable, key=lambda shard: hash64("estimate_shard", seed, shard.name))

    def read(shard: Shard) -> tuple[Counter[str], list[tuple[int, str, str, str]]]:
        try:
            samples = list(read_samples(shard, data, with_images=False))
        except ShardUnreadableError:
            return Counter(), []
        except (OSError, ValueError) as error:
            raise UserError(f"data.path: {shard.url} cannot be read: {error}") from error
        described = describe_samples(samples, rewrite.max_caption_characters, rewrite.gate.drop_wordless_captions)
        first_ids: dict[str, str] = {}  # by caption
        for sample, outcome in zip(samples, described["outcome"], strict=True):
            if outcome == DRAWN:
                first_ids.setdefault(sample.caption, sample.id)
        return Counter(described["outcome"]), [
            (hash64("estimate_caption", seed, shard.name, sample_id), sample_id, caption, shard.name)
            for caption, sample_id in first_ids.items()
        ]

    with ThreadPoolExecutor(max(len(chosen), 1)) as pool:  # threads mostly wait for storage
        parts = list(pool.map(read, chosen))
    outcomes = sum((counts for counts, _ in parts), Counter[str]())
    drawn = heapq.nsmallest(caption_count, (entry for _, entries in parts for entry in entries))
    listed = [shard.known_rows for shard in chosen if shard.known_rows is not None]
    return CaptionSample(
        shards=len(chosen),
        rows=outcomes.total(),
        distinct=sum(len(entries) for _, entries in parts),
        captions=tuple((sample_id, caption) for _, sample_id, caption, _ in drawn),
        shard_names=tuple(shard for *_, shard in drawn),
        listed_rows=sum(listed) if len(listed) == len(chosen) else None,
        not_rewritten={reason: count for reason, count in outcomes.items() if reason != DRAWN},
    )


def count_captions(shards: Sequence[Shard], sample: CaptionSample) -> int:
    """Samples of all readable shards, from the sampled ones: their samples per row of a table, and per tar.

    The dataset index may know the samples of tars.
    """
    counted = uncounted_shards = 0
    for shard in shards:
        if not shard.defect:
            counted += shard.known_rows or 0
            uncounted_shards += shard.known_rows is None
    if sample.listed_rows:
        counted = round(counted * sample.rows / sample.listed_rows)
    return counted + round(uncounted_shards * sample.rows / sample.shards) if uncounted_shards else counted


def expected_redraws(rewrite: RewriteConfig) -> tuple[float, float]:
    """Additional prompts and additional draws per caption if the gate rejects `REJECTED_SHARE` of all draws.

    One request redraws all rejected draws of a caption. Greedy draws are all equal and are not redrawn.
    """
    rounds = range(1, (rewrite.redraws if rewrite.sampling.temperature else 0) + 1)
    wanted = rewrite.rewrites_per_set
    prompts = sum(1 - (1 - REJECTED_SHARE**number) ** wanted for number in rounds)
    return prompts, sum(wanted * REJECTED_SHARE**number for number in rounds)


def count_set(
    prompt_set: PromptSet,
    heads: Sequence[Head],
    captions: Sequence[tuple[str, str]],
    total_captions: float,
    rewrite: RewriteConfig,
    seed: int,
    tokenizer: Any,
) -> SetTokens:
    """Estimate the tokens of one prompt set from the tokens of the sampled captions.

    Args:
        prompt_set: the set.
        heads: its heads.
        captions: (id, caption) of the sample.
        total_captions: number of captions that the sample represents.
        rewrite: the rewriting configuration.
        seed: the experiment's seed.
        tokenizer: a transformers tokenizer.
    """
    # A chat template writes its special tokens itself. For completion prompts the engine's tokenizer adds them.
    special = rewrite.mode == "completion"
    # The estimate is of engines on GPUs.
    block = int(rewrite.engine.args.get("block_size") or GPU_BLOCK_TOKENS)
    head_numbers = [choose_head(prompt_set.name, sample_id, len(heads), seed) for sample_id, _ in captions]
    cacheable_tokens = [count // block * block for count in shared_tokens(tokenizer, heads, special)]
    prompts = [heads[number].prompt(caption) for number, (_, caption) in zip(head_numbers, captions, strict=True)]
    prompt_lengths = [len(ids) for ids in _token_ids(tokenizer, prompts, special)]
    expansion = _token_count(tokenizer, (pair.target for pair in prompt_set.pairs)) / _token_count(
        tokenizer, (pair.source for pair in prompt_set.pairs)
    )
    lengths = [len(ids) for ids in _token_ids(tokenizer, [" ".join(text.split()) for _, text in captions], False)]
    # Plus one: the engine also generates the line break or end token after a rewrite.
    outputs = [min(rewrite.sampling.max_tokens, expansion * length + 1) for length in lengths]
    redraw_prompts, redraws = expected_redraws(rewrite)
    requests = total_captions * (1 + redraw_prompts)
    # Every engine computes every head once before it can share it.
    sharing_requests = max(requests - len(heads) * rewrite.engine.actors.max, 0.0)
    return SetTokens(
        prompt_set=prompt_set.name,
        requests=round(requests),
        prompt_tokens=round(requests * _mean(prompt_lengths)),
        cached_tokens=round(sharing_requests * _mean(cacheable_tokens[number] for number in head_numbers)),
        output_tokens=round(total_captions * (rewrite.rewrites_per_set + redraws) * _mean(outputs)),
        expansion=expansion,
    )


def _token_ids(tokenizer: Any, texts: Sequence[str], special: bool) -> list[list[int]]:
    if not texts:
        return []
    ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=special, verbose=False)["input_ids"]
    return ids


def _token_count(tokenizer: Any, texts: Iterable[str]) -> int:
    return sum(map(len, _token_ids(tokenizer, list(texts), False)))


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else 0.0
