"""Figures of the cost of the meaning gate: scoring, its share of a run, and judging again with stored scores."""

import csv
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import torch

from laclip_ray.config import DEMO_REWRITER, MeaningGateConfig, parse_experiment
from laclip_ray.data.records import hash_caption
from laclip_ray.models.sentence_encoder import SentenceEncoder
from laclip_ray.randomness import hash64
from laclip_ray.rewriting.judging.gate import Gate
from laclip_ray.rewriting.judging.meaning import MeaningScorer, Pair
from laclip_ray.rewriting.running.pipeline import run_rewriting
from laclip_ray.rewriting.scoring.meaning_pool import local_meaning_gate
from laclip_ray.rewriting.scoring.meaning_verdicts import judge_by_meaning
from laclip_ray.rewriting.tables import DRAWN, SCORED_DRAWS_SCHEMA, TOKENS
from tests.figures.figure import Figure
from tests.figures.rewriting import world_captions
from tests.real_models import real_model

ENCODER = "all-minilm-l6-v2"
PAIRS = 4_000
DRAWS, SHARD_DRAWS = 1_000_000, 10_000
RUN_CAPTIONS = 2_000


def cost_of_meaning(show: int) -> Iterator[Figure]:
    """What the meaning gate costs on a CPU."""
    yield from _scoring(show)
    yield from _judging_again(show)
    yield from _share_of_a_run(show)


def pairs_of_words(count: int) -> list[Pair]:
    """Distinct captions of the demo's world, each with its words in another order and two words of another one."""
    captions = world_captions(count)
    pairs = []
    for number, caption in enumerate(captions):
        other = captions[(number + 1) % count].split()[-2:]
        words = sorted(caption.split(), key=lambda word: hash64("order", word))
        pairs.append((caption, " ".join([*words, *other])))
    return pairs


def _scoring(show: int) -> Iterator[Figure]:
    """Pairs a second on one core, and against the bare encoder on the same texts."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        encoder = SentenceEncoder(str(real_model(ENCODER)), None, 256, "rewrite.gate.meaning", device="cpu")
        pairs = pairs_of_words(PAIRS)
        batches = [pairs[start : start + 256] for start in range(0, PAIRS, 256)]
        scorer = MeaningScorer(encoder.encode)
        scorer.score(batches[0])
        scoring_s = _seconds(lambda: [scorer.score(batch) for batch in batches])
        bare_s = _seconds(lambda: [encoder.encode([text for pair in batch for text in pair]) for batch in batches])
    finally:
        torch.set_num_threads(threads)
    yield Figure(show, "pairs scored a second on one core", PAIRS / scoring_s, "1/s")
    yield Figure(show, "time of scoring over that of encoding its texts", scoring_s / bare_s, "")


def _judging_again(show: int) -> Iterator[Figure]:
    """A million draws with stored scores, judged with another threshold."""
    pairs = pairs_of_words(SHARD_DRAWS)
    meaning = local_meaning_gate(MeaningGateConfig(model=str(real_model(ENCODER)), min_faithfulness=0.5))
    assert meaning is not None
    gate = Gate(parse_experiment(_content(Path("unused"))).rewrite.gate, ((),), lambda text: len(text.split()) + 2)
    draws = _scored_draws(pairs)
    start_s = time.process_time()
    for _ in range(DRAWS // SHARD_DRAWS):
        verdicts = judge_by_meaning(draws, gate, meaning)
    cpu_s = time.process_time() - start_s
    assert 0 < verdicts.reasons.null_count < SHARD_DRAWS
    yield Figure(show, f"CPU time to judge {DRAWS:,} draws again at another threshold", cpu_s / 60, "min")


def _scored_draws(pairs: list[Pair]) -> pa.Table:
    """A shard of draws whose scores are known."""
    rows = [
        {
            "id": str(number),
            "caption_hash": hash_caption(caption),
            "caption": caption,
            "problems": "",
            "draw": 0,
            "attempt": 0,
            "head": 0,
            "outcome": DRAWN,
            "text": text,
            "truncated": False,
            "meaning": 0.4 + 0.6 * (hash64("meaning", number) % 1000) / 1000,
            "added": (hash64("added", number) % 1000) / 500,
            **dict.fromkeys(TOKENS, 0),
        }
        for number, (caption, text) in enumerate(pairs)
    ]
    return pa.Table.from_pylist(rows, schema=SCORED_DRAWS_SCHEMA)


def _share_of_a_run(show: int) -> Iterator[Figure]:
    """Wall time of a rewriting run with SmolLM2 on this machine, with the gate and without."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        with (directory / "captions.tsv").open("w", newline="") as file:
            writer = csv.writer(file, delimiter="\t")
            writer.writerow(["caption", "url"])
            writer.writerows([caption, f"{number}.jpg"] for number, caption in enumerate(world_captions(RUN_CAPTIONS)))
        seconds = {}
        for name, meaning in (("without", None), ("with", {"model": str(real_model(ENCODER))})):
            experiment = parse_experiment(_content(directory, name, meaning, real_model("smollm2-135m-instruct")))
            seconds[name] = run_rewriting(experiment).elapsed_s
    share = 1 - seconds["without"] / seconds["with"]
    yield Figure(
        show, f"share of a run's time, {RUN_CAPTIONS} captions, SmolLM2 135M, {os.cpu_count()} cores", share, ""
    )


def _content(
    directory: Path, name: str = "run", meaning: object = None, model: Path | str = DEMO_REWRITER
) -> dict[str, object]:
    return {
        "name": name,
        "output": str(directory / name),
        "data": {"path": str(directory / "captions.tsv"), "id_column": "url"},
        "rewrite": {
            "model": str(model),
            "mode": "chat",
            "prompt_sets": ["crowd"],
            "redraws": 0,
            "gate": {"meaning": meaning},
            "max_failed_share": 1.0,
        },
    }


def _seconds(action: Callable[[], object]) -> float:
    start_s = time.perf_counter()
    action()
    return time.perf_counter() - start_s
