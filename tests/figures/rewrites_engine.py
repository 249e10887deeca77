"""Figures of the engine: what aligned prompt heads save, and the pipeline against the bare engine."""

import csv
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from laclip_ray import storage
from laclip_ray.config import RewriteConfig
from laclip_ray.rewriting.engines.heads import build_heads, choose_heads, load_llm_tokenizer, shared_tokens
from laclip_ray.rewriting.prompting.prompts import built_in_prompt_sets, load_prompt_set
from tests.figures.figure import Figure
from tests.figures.rewriting import (
    RUNS,
    experiment_on,
    made_up_captions,
    make_model,
    peer,
    run_pipeline,
    to_bare,
    world_captions,
    write_captions,
)
from tests.integration.procedures import real_data
from tests.real_models import real_model

CAPTIONS = 100
"""Captions rewritten with each choice of heads, in each of the four prompt sets."""
_BRIEF: dict[str, Any] = {
    "heads": 8,
    "redraws": 0,
    "sampling": {"max_tokens": 8},
    "gate": {"drop_truncated": False, "min_words": 0, "min_shared_words": 0, "meaning": None},
    "max_failed_share": 1.0,
}
"""Prompts are measured, so texts are cut off early, and accepted all the same. Few heads: each serves many captions."""
BLOCKS = (16, 32)
"""The cache blocks of vLLM on a GPU and, with this package's default, on a CPU."""


def computed_tokens(show: int) -> Iterator[Figure]:
    """Prompt tokens that the engine computes for a caption, with aligned and with other heads, the same captions."""
    model = str(real_model("smollm2-135m-instruct"))
    for mode in ("chat", "completion"):
        settings = {"model": model, "mode": mode, **_BRIEF}
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            write_captions(directory / "data", _captions(), rows_per_file=CAPTIONS)
            computed = {
                choice: _computed(directory, choice, {**settings, "head_choice": choice})
                for choice in ("any", "aligned")
            }
        for choice, tokens in computed.items():
            yield Figure(show, f"computed prompt tokens a caption, {mode}, heads {choice}", tokens, "tokens")
        fewer = 1 - computed["aligned"] / computed["any"]
        bar = 0.12 if mode == "chat" else None
        yield Figure(show, f"fewer computed prompt tokens with aligned heads, {mode}", fewer, "share", at_least=bar)
        for block in BLOCKS:
            for choice in ("any", "aligned"):
                lost = _lost_tokens(RewriteConfig.model_validate(
                    {**settings, "head_choice": choice, "engine": {"args": {"block_size": block}}}
                ))  # fmt: skip
                yield Figure(
                    show, f"head tokens behind the last whole block of {block}, {mode}, heads {choice}", lost, "tokens"
                )


def _captions() -> list[str]:
    data = real_data()
    if data is None:
        return world_captions(CAPTIONS)
    with (data / "cc3m-validation.tsv").open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return list(dict.fromkeys(row[0] for row in rows))[:CAPTIONS]


def _computed(directory: Path, name: str, rewrite: dict[str, Any]) -> float:
    experiment = experiment_on(directory, name, **rewrite)
    run_pipeline(experiment, directory, "vllm")
    summary = storage.read_json(storage.join(experiment.rewrite_output, "summary.json"))
    counts = summary["prompt_sets"].values()
    tokens = sum(each["prompt_tokens"] - each["cached_tokens"] for each in counts)
    return float(tokens / sum(each["captions"] for each in counts))


def _lost_tokens(rewrite: RewriteConfig) -> float:
    """Mean tokens of a head behind its last whole block: the engine computes them again for every caption."""
    sets = {name: load_prompt_set(name) for name in built_in_prompt_sets()}
    heads = build_heads(rewrite, sets, choose_heads(rewrite, sets, 0, "memory://no-sets"))
    tokenizer, block = load_llm_tokenizer(rewrite), rewrite.engine.args["block_size"]
    return statistics.fmean(
        count % block
        for of_set in heads.values()
        for count in shared_tokens(tokenizer, of_set, special=rewrite.mode == "completion")
    )


def pipeline_against_engine(show: int) -> Iterator[Figure]:
    """The pipeline with its gate against the engine alone, on the same prompts, with one thread for the model."""
    captions = made_up_captions(0, 4_000)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_captions(directory / "data", captions, rows_per_file=500)
        rewrite = {
            "model": str(make_model(directory / "model", hidden_size=256, layers=4)),
            "prompt_sets": ["crowd"],
            "redraws": 0,
            "sampling": {"max_tokens": 40},
            # The model writes random words up to the limit: every check judges them, the encoder scores all of them.
            "gate": {
                "drop_truncated": False,
                "min_shared_words": 0,
                "meaning": {"model": str(real_model("all-minilm-l6-v2")), "min_faithfulness": -10.0},
            },
            "max_failed_share": 1.0,
            "engine": {"args": {"max_model_len": 1024}, "cpu_threads": 1},
        }
        ratios = []
        with peer("bare", to_bare(experiment_on(directory, "bare", **rewrite), directory)) as ask:
            for run in range(RUNS):
                bare = len(captions) / ask({"captions": captions})["seconds"]
                found = run_pipeline(experiment_on(directory, f"run-{run}", **rewrite), directory, "vllm")
                ratios.append(found.captions / found.seconds / bare)
    yield Figure(show, "pipeline against the bare engine", statistics.median(ratios), "ratio", at_least=0.98)
    yield Figure(show, "pipeline against the bare engine, worst of five", min(ratios), "ratio")
    yield Figure(show, "pipeline against the bare engine, best of five", max(ratios), "ratio")
