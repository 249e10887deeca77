"""Figures of rewriting: speed against a bare engine and against the published way, scale, kills, accounting."""

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from laclip_ray import storage
from laclip_ray.config import Experiment, load_experiment, parse_experiment, to_yaml
from laclip_ray.demo.language import alt_text
from laclip_ray.demo.scenes import draw_scene
from laclip_ray.rewriting.judging.gate import build_gate
from laclip_ray.rewriting.prompting.head_choice import pairs_of, unaligned_heads
from laclip_ray.rewriting.prompting.prompts import load_prompt_set
from tests.figures import gate
from tests.figures.figure import Figure, exit_code, outcomes_of_tests
from tests.figures.processes import watch_memory
from tests.integration.chaos import contents, run_chaos
from tests.integration.procedures import REPOSITORY, child_environment, real_data

_GIB = 2**30
RUNS = 5
"""Interleaved runs of each side of a ratio; the median counts."""


def figures(shows: Collection[int] = ()) -> Iterator[Figure]:
    """Those of the numbered shows, or all, in order."""
    measure = (
        (1, against_bare_engine), (2, against_published_way), (3, without_engine), (4, scale), (5, kills),
        (5, kills_of_vllm), (6, accounting), (7, round_trips), (8, pure),
    )  # fmt: skip
    for number, show in measure:
        if not shows or number in shows:
            with tempfile.TemporaryDirectory() as name:
                yield from show(Path(name))


# --- data


def world_captions(count: int) -> list[str]:
    """Distinct alt-texts of the demo's world, which its rewriter knows."""
    found: dict[str, None] = {}
    for number in itertools.count():
        if len(found) == count:
            return list(found)
        found[alt_text(draw_scene("figures", number), "figures", number)] = None
    raise AssertionError


_WORDS = (
    "old red small wooden bright quiet large blue narrow open",
    "house bridge market river garden station mountain harbour kitchen window",
    "beside under behind near above along across inside facing around",
    "the tall trees, a busy street, its owner, the morning sun, an empty field, two children, the sea, a stone wall",
)


def made_up_captions(start: int, count: int) -> list[str]:
    """Distinct captions of about ten words, at any number."""
    first, second, third = (words.split() for words in _WORDS[:3])
    fourth = _WORDS[3].split(", ")
    return [
        f"{first[n % 10]} {second[n // 10 % 10]} {third[n // 100 % 10]} {fourth[n // 1000 % 8]}, picture {n + 100_000}"
        for n in range(start, start + count)
    ]


def write_captions(directory: Path, captions: Sequence[str], rows_per_file: int) -> None:
    """Captions as Parquet files."""
    directory.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(captions), rows_per_file):
        part = captions[start : start + rows_per_file]
        table = pa.table({"key": [f"k{number:09d}" for number in range(start, start + len(part))], "caption": part})
        pq.write_table(table, directory / f"{start:09d}.parquet")


def experiment_on(directory: Path, name: str, **rewrite: Any) -> Experiment:
    """An experiment on the captions in `directory/data`, with its output beside them."""
    return parse_experiment(
        {
            "name": name,
            "output": str(directory / name),
            "data": {"path": str(directory / "data"), "id_column": "key"},
            "rewrite": {"model": "demo-rewriter", **rewrite},
        }
    )


# --- running


@dataclass(frozen=True)
class Rate:
    """One run of the pipeline, from when its engine was ready."""

    seconds: float
    captions: int
    accepted: int
    """Rewrites that the gate accepted."""
    made: int
    """Rewrites in all."""


def run_pipeline(experiment: Experiment, directory: Path, engine: str) -> Rate:
    """Rewrite in a process of its own; from the moment that the engine can answer to the last commit."""
    config, ready = directory / "run.yaml", directory / "ready"
    config.write_text(to_yaml(experiment))
    environment = {**child_environment(), "LACLIP_FIGURES_READY": str(ready)}
    command = [sys.executable, "-m", "tests.figures.rewriting_run", str(config), engine]
    done = subprocess.run(command, env=environment, cwd=REPOSITORY, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    summary = storage.read_json(storage.join(experiment.rewrite_output, "summary.json"))
    last = max(path.stat().st_mtime for path in Path(experiment.rewrite_output).rglob("verdicts/**/*.parquet"))
    counts = summary["prompt_sets"].values()
    return Rate(
        seconds=last - ready.stat().st_mtime,
        captions=sum(each["captions"] for each in counts),
        accepted=sum(each["accepted"] for each in counts),
        made=sum(each["accepted"] + sum(each["rejected"].values()) for each in counts),
    )


Ask = Callable[[dict[str, Any]], dict[str, Any]]


@contextmanager
def peer(*arguments: str) -> Iterator[Ask]:
    """A process that answers each JSON line with one: a side of a ratio that stays ready between the runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.figures.rewriting_peers", *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=child_environment(), cwd=REPOSITORY, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    answers, requests = process.stdout, process.stdin

    def ask(request: dict[str, Any]) -> dict[str, Any]:
        requests.write(json.dumps(request) + "\n")
        requests.flush()
        for line in answers:
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        raise AssertionError(f"the peer ended: {arguments}")

    try:
        yield ask
    finally:
        requests.close()
        process.wait(timeout=60)


# --- the shows


def against_bare_engine(directory: Path) -> Iterator[Figure]:
    """Show 1: the pipeline against the engine alone, on the same distinct prompts.

    With one thread the model has a core of its own, as it would have a GPU, and the bar holds; with all cores, the
    default, what else the pipeline does is taken from the model's time.
    """
    captions = made_up_captions(0, 4_000)
    write_captions(directory / "data", captions, rows_per_file=500)
    model = make_model(directory / "model", hidden_size=256, layers=4)
    for name, threads, bar in (("one thread to compute", 1, 0.95), ("all cores to compute", None, None)):
        rewrite = {
            "model": str(model),
            "prompt_sets": ["crowd"],
            "redraws": 0,
            "sampling": {"max_tokens": 40},
            "engine": {"args": {"max_model_len": 1024}, "cpu_threads": threads},
        }
        ours, bare = [], []
        with peer("bare", to_bare(experiment_on(directory, "bare", **rewrite), directory)) as ask:
            for run in range(RUNS if bar else 3):
                bare.append(len(captions) / ask({"captions": captions})["seconds"])
                found = run_pipeline(experiment_on(directory, f"run-{threads}-{run}", **rewrite), directory, "vllm")
                ours.append(found.captions / found.seconds)
        ratios = [mine / theirs for mine, theirs in zip(ours, bare, strict=True)]
        yield Figure(1, f"rewrites a second, bare engine, {name}", statistics.median(bare), "1/s")
        yield Figure(1, f"rewrites a second, pipeline, {name}", statistics.median(ours), "1/s")
        yield Figure(1, f"pipeline against the bare engine, {name}", statistics.median(ratios), "ratio", at_least=bar)


def against_published_way(directory: Path) -> Iterator[Figure]:
    """Show 2: the pipeline against Hugging Face `generate` in static batches, and the prefix cache."""
    captions = world_captions(1_000)
    write_captions(directory / "data", captions, rows_per_file=250)
    rewrite = {"prompt_sets": ["crowd"], "redraws": 0, "gate": {"min_shared_words": 0}}
    experiment = experiment_on(directory, "bare", **rewrite)
    config = to_bare(experiment, directory)
    crowd = load_prompt_set("crowd")
    heads = pairs_of(crowd, unaligned_heads(crowd, experiment.rewrite.heads, experiment.seed))
    judge = build_gate(experiment.rewrite, heads, experiment.model.name).judge
    accepted = []
    with peer("published", config) as published, peer("bare", config) as bare:
        for run in range(3):
            answer = published({"captions": captions[:200], "tokens": 77, "seed": run})
            good = sum(
                judge(text, caption, truncated, 0) is None
                for caption, (text, truncated) in zip(captions[:200], answer["texts"], strict=True)
            )
            found = run_pipeline(experiment_on(directory, f"run-{run}", **rewrite), directory, "vllm")
            accepted.append((found.accepted / found.seconds) / (good / answer["seconds"]))
        yield from _tokens_a_second("the demo's rewriter", published, bare, captions[:400])
        cache = bare({"captions": captions, "by_head": True})
    yield Figure(
        2, "accepted rewrites a second against the published way", statistics.median(accepted), "ratio", at_least=4
    )
    yield Figure(2, "cache block", cache["block_size"], "tokens")
    yield Figure(2, "cacheable head tokens from the cache", cache["cached_share"], "share", at_least=0.98)

    larger = to_bare(
        experiment_on(directory, "larger", **rewrite, model=str(make_model(directory / "model", 512, 8))), directory
    )
    with peer("published", larger) as published, peer("bare", larger) as bare:
        yield from _tokens_a_second("30 M parameters", published, bare, captions[:400])


def _tokens_a_second(model: str, published: Ask, bare: Ask, captions: Sequence[str]) -> Iterator[Figure]:
    """The engine against the published way where both make as many tokens, after a first round that warms both up."""
    ratios = []
    for run in range(4):
        request = {"captions": captions, "tokens": 40, "seed": run}
        ratios.append(published(request)["seconds"] / bare(request)["seconds"])
    yield Figure(
        2, f"tokens a second against the published way, {model}", statistics.median(ratios[1:]), "ratio", at_least=1.8
    )


def without_engine(directory: Path) -> Iterator[Figure]:
    """Show 3: everything but the engine."""
    write_captions(directory / "data", made_up_captions(0, 400_000), rows_per_file=10_000)
    two = {"actors": {"min": 2, "max": 2}}
    found = run_pipeline(experiment_on(directory, "run", engine=two), directory, "seeded")
    captions = found.captions / 4  # four prompt sets
    yield Figure(3, "captions a second, four rewrites each", captions / found.seconds, "1/s", at_least=10_000)
    yield Figure(3, "rewrites judged", found.made, "rewrites")


def scale(directory: Path) -> Iterator[Figure]:
    """Show 4: ten times the captions."""
    rates, memory = {}, {}
    for name, count in (("1 M", 1_000_000), ("10 M", 10_000_000)):
        place = directory / name.replace(" ", "")
        for start in range(0, count, 1_000_000):
            write_captions(place / "data" / str(start), made_up_captions(start, 1_000_000), rows_per_file=100_000)
        experiment = experiment_on(place, "run", prompt_sets=["crowd"])
        with watch_memory(_kind_of) as peaks:
            found = run_pipeline(experiment, place, "seeded")
        rates[name], memory[name] = found.captions / found.seconds, dict(peaks)
        yield Figure(4, f"captions a second, {name}", rates[name], "1/s")
    yield Figure(4, "change of rate", abs(rates["10 M"] / rates["1 M"] - 1), "share", at_most=0.10)
    for kind in sorted(memory["1 M"].keys() & memory["10 M"].keys()):
        growth = memory["10 M"][kind] / memory["1 M"][kind] - 1
        yield Figure(4, f"peak memory of {kind}, 10 M", memory["10 M"][kind] / 2**20, "MiB")
        yield Figure(4, f"growth of {kind}'s peak memory", growth, "share", at_most=0.15)
    started_s = time.monotonic()
    again = [sys.executable, "-m", "laclip_ray", "rewrite", str(place / "run.yaml")]
    done = subprocess.run(again, env=child_environment(), cwd=REPOSITORY, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    yield Figure(4, "rerun over the finished 10 M", time.monotonic() - started_s, "s", at_most=20)


def kills(directory: Path) -> Iterator[Figure]:
    """Show 5: fifty kills with a scripted engine."""
    write_captions(directory / "data", made_up_captions(0, 100_000), rows_per_file=1_250)
    victims = (["engine", "actor", "engine", "actor", "driver"] * 10)[:50]
    experiment = experiment_on(directory, "killed", prompt_sets=["crowd"])
    found = run_chaos(experiment, victims, 2.5, 7, directory, "process:0.002")
    undisturbed = experiment_on(directory, "undisturbed", prompt_sets=["crowd"])
    run_pipeline(undisturbed, directory, "seeded")
    expected, got = contents(undisturbed)["crowd"], contents(experiment)["crowd"]
    yield Figure(5, "kills, scripted engine", found.kills.total(), "kills", at_least=50)
    for victim, count in found.kills.items():
        yield Figure(5, f"kills of {victim}", count, "kills")
    yield exit_code(5, "exit code", found.exit_code)
    yield Figure(5, "missing or repeated ids", len(expected.keys() ^ got.keys()), "ids", at_most=0)
    yield Figure(
        5,
        "rows unlike those of an undisturbed run",
        sum(expected[key] != got.get(key) for key in expected),
        "rows",
        at_most=0,
    )
    yield Figure(5, "processes left", found.processes_left, "processes", at_most=0)


def kills_of_vllm(directory: Path) -> Iterator[Figure]:
    """Show 5, second part: four kills with vLLM, and a caption that kills it."""
    captions = world_captions(1_200)
    captions[700] += " POISON"
    write_captions(directory / "data", captions, rows_per_file=150)
    real = experiment_on(
        directory, "run", prompt_sets=["crowd"], gate={"min_shared_words": 0}, engine={"shards_in_flight": 1}
    )
    found = run_chaos(real, ["engine", "actor", "driver", "engine"], 1.0, 3, directory, "vllm")
    rows = contents(real)["crowd"]
    failed = [key[0] for key, (_, reason) in rows.items() if reason == "engine_died"]
    print(found.output[-2_000:])
    yield Figure(5, "kills, vLLM, beside the poison caption", found.kills.total(), "kills", at_least=4)
    yield Figure(5, "vLLM: exit code (3: a caption failed)", found.exit_code, "")
    yield Figure(5, "vLLM: captions without an outcome", 1_200 - len({key[0] for key in rows}), "captions", at_most=0)
    yield Figure(
        5,
        "vLLM: captions failed beside the poison",
        len([each for each in failed if each != "k000000700"]),
        "captions",
        at_most=0,
    )
    yield Figure(5, "vLLM: poison captions found", failed.count("k000000700"), "captions", at_least=1)
    yield Figure(5, "vLLM: processes left", found.processes_left, "processes", at_most=0)


def accounting(directory: Path) -> Iterator[Figure]:
    """Show 6: all of Conceptual Captions' validation list through a real engine."""
    data = real_data()
    if data is None:
        print("LACLIP_TEST_DATA is not set: the figures on Conceptual Captions (show 6) are left out")
        return
    os.environ["LACLIP_TEST_DATA"] = str(data)
    experiment = load_experiment("configs/cc3m_validation.yaml", [f"output={directory / 'cc3m'}"])
    found = run_pipeline(experiment, directory, "vllm")
    summary = storage.read_json(storage.join(experiment.rewrite_output, "summary.json"))
    wrong = 0
    for counts in summary["prompt_sets"].values():
        wrong += abs(counts["captions"] - counts["accepted"] - sum(counts["unfilled"].values()))
    ids = [{key[0] for key in rows} for rows in contents(experiment).values()]
    yield Figure(6, "captions x prompt sets", found.captions, "captions")
    yield Figure(6, "ids of the first set", len(ids[0]), "ids", at_least=15_833)
    yield Figure(6, "outcomes that do not add up", wrong, "captions", at_most=0)
    yield Figure(6, "accepted", found.accepted, "rewrites")
    for reason, count in sum(
        (Counter(each["rejected"]) for each in summary["prompt_sets"].values()), Counter()
    ).items():
        yield Figure(6, f"rejected: {reason}", count, "draws")
    yield Figure(6, "rewrites a second", found.made / found.seconds, "1/s")


def round_trips(directory: Path) -> Iterator[Figure]:
    """Show 7: import, export, import again; a shard whose rows changed."""
    yield from outcomes_of_tests(
        7,
        "rewriting/test_import_texts.py",
        "rewriting/test_line_files.py",
        "rewriting/test_export.py",
        "rewriting/test_backlog.py",
    )


def pure(directory: Path) -> Iterator[Figure]:
    """Show 8: the property tests, and what the gate refuses of what is good and of what is not."""
    modules = (
        "prompts",
        "gate",
        "store",
        "sets",
        "recipe",
        "tables",
        "attempts",
        "statistics",
        "draws",
        "generator",
        "stages",
    )
    yield from outcomes_of_tests(8, *(f"rewriting/test_{module}.py" for module in modules))
    yield from gate.figures()


def to_bare(experiment: Experiment, directory: Path) -> str:
    """The config file of a peer."""
    path = directory / "bare.yaml"
    path.write_text(to_yaml(experiment))
    return str(path)


def make_model(directory: Path, hidden_size: int, layers: int) -> Path:
    """A Llama of some millions of random weights, with the demo's tokeniser."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from laclip_ray.config import DEMO_REWRITER
    from laclip_ray.rewriting.recipe import model_directory

    tokenizer = AutoTokenizer.from_pretrained(model_directory(DEMO_REWRITER))
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=hidden_size, intermediate_size=4 * hidden_size,
            num_hidden_layers=layers, num_attention_heads=hidden_size // 32, num_key_value_heads=hidden_size // 64,
            max_position_embeddings=1024, eos_token_id=tokenizer.eos_token_id,
        )
    ).to(torch.bfloat16)  # fmt: skip
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def _kind_of(title: str) -> str | None:
    if "tests.figures.rewriting_run" in title:
        return "the driver"
    if "RewritingActor" in title:
        return "an engine's actor"
    if title.startswith("ray::"):
        return "a task's worker"
    return None
