"""A probe tries settings one after the other, one engine at a time, and records the best."""

import asyncio
import io
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from laclip_ray import storage
from laclip_ray.cli import main
from laclip_ray.config import Experiment, RewriteConfig, parse_experiment, to_yaml, with_overrides
from laclip_ray.console import print_probe, print_rewriting
from laclip_ray.errors import IncompleteError, UserError
from laclip_ray.rewriting.engines import arguments as engine_arguments
from laclip_ray.rewriting.engines.engine import Answer, Completion, EngineDiedError, EngineStartError, RequestError
from laclip_ray.rewriting.engines.heads import build_heads, choose_heads
from laclip_ray.rewriting.engines.probe_record import ProbeRecord, read_probe
from laclip_ray.rewriting.engines.work import EngineSpeed
from laclip_ray.rewriting.forecasting import probe
from laclip_ray.rewriting.forecasting.probe import ProbeResult, Trial, fragment, prompts_of, run_probe
from laclip_ray.rewriting.prompting.prompts import Prompt, load_prompt_set
from laclip_ray.rewriting.running import pipeline
from laclip_ray.rewriting.running.backlog import find_backlog
from laclip_ray.rewriting.running.result import RewritingResult
from tests.cases import case

SECONDS = 0.3


@pytest.fixture(autouse=True)
def _on_a_cpu_without_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (probe, engine_arguments):
        monkeypatch.setattr(module, "has_gpu", lambda: False)
    monkeypatch.setattr(probe, "kill_children_when_gone", lambda: None)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr(probe, "REQUESTS_IN_FLIGHT", 64)
    monkeypatch.setattr(probe, "_RELEASE_TIMEOUT_S", 0.0)


@dataclass
class FakeEngine:
    """Answers at once; only one may be alive."""

    rewrite: RewriteConfig
    alive: list["FakeEngine"]

    def __post_init__(self) -> None:
        assert not self.alive, "two engines at a time"
        self.alive.append(self)

    @property
    def batching(self) -> dict[str, int]:
        """What vLLM would decide."""
        defaults = {"max_num_seqs": 32, "max_num_batched_tokens": 2048}
        return {name: self.rewrite.engine.args.get(name, default) for name, default in defaults.items()}

    async def generate(self, prompt: Prompt, count: int, request_id: str) -> Answer:
        """See `laclip_ray.rewriting.engines.engine.Engine`."""
        await asyncio.sleep(0.001)
        return Answer([Completion("a text", False, 10)] * count, 100, 80)

    def close(self) -> None:
        """Free the place for the next one."""
        self.alive.remove(self)


def experiment(directory: Path, **rewrite: Any) -> Experiment:
    directory.joinpath("data.jsonl").write_text("".join(f'{{"caption": "a red cup {n}"}}\n' for n in range(300)))
    return parse_experiment(
        {
            "name": "probed",
            "output": str(directory / "out"),
            "data": {"path": str(directory / "data.jsonl")},
            "rewrite": {"model": "demo-rewriter", "prompt_sets": ["crowd"], "heads": 4, **rewrite},
        }
    )


Speed = Callable[[RewriteConfig], float]


def probed(monkeypatch: pytest.MonkeyPatch, settings: Experiment, speed: Speed, **arguments: Any) -> ProbeResult:
    """Probe engines whose output tokens a second are a function of their configuration."""
    alive: list[FakeEngine] = []

    async def write(engine: FakeEngine, prompts: Any, draws: int, in_flight: int, seconds: float) -> Any:
        tokens = round(speed(engine.rewrite) * seconds)
        return probe._Counts(tokens // 10, 100 * tokens, 80 * tokens, tokens), seconds

    monkeypatch.setattr(probe, "_write", write)
    build = arguments.pop("build_engine", FakeEngine)
    return run_probe(settings, 1_000.0, build_engine=lambda rewrite, _: build(rewrite, alive), **arguments)


def test_the_fastest_setting_is_found_and_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, seen = experiment(tmp_path), list[Trial]()

    def speed(rewrite: RewriteConfig) -> float:
        seqs: int = rewrite.engine.args.get("max_num_seqs", 32)
        return (2.0 if rewrite.engine.cpu_threads == 1 else 1.0) * min(seqs, 64) * 10

    found = probed(monkeypatch, settings, speed, on_trial=seen.append)
    assert found.best.settings == {"cpu_threads": 1, "max_num_seqs": 64, "max_num_batched_tokens": 2048}
    assert set(found.overrides) == {"rewrite.engine.cpu_threads=1", "rewrite.engine.args.max_num_seqs=64"}
    assert tuple(seen) == found.trials
    assert (found.best.tokens_per_s, found.best.cached_share) == pytest.approx((1_280.0, 0.8), rel=1e-3)
    record = read_probe(settings.rewrite_output)
    assert record is not None
    assert record == found.record
    assert (record.settings, record.model) == (found.best.settings, "demo-rewriter")
    written = yaml.safe_load(storage.read_bytes(found.files[1]))
    again = RewriteConfig.model_validate({"model": "demo-rewriter", **written["rewrite"]})
    assert (again.engine.cpu_threads, again.engine.args["max_num_seqs"]) == (1, 64)


def test_a_users_settings_are_the_first_trial_and_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = experiment(tmp_path, engine={"cpu_threads": 2, "args": {"max_num_seqs": 16, "max_model_len": 512}})
    built: list[RewriteConfig] = []

    def speed(rewrite: RewriteConfig) -> float:
        built.append(rewrite)
        return 100.0 * int(rewrite.engine.args["max_num_seqs"])

    found = probed(monkeypatch, settings, speed)
    assert built[0].engine == settings.rewrite.engine
    assert {rewrite.engine.args["max_model_len"] for rewrite in built} == {512}
    assert found.best.settings["max_num_seqs"] == 32


@pytest.mark.parametrize("change", [0.5, 1.0, 1.015])
def test_a_change_within_the_noise_does_not_replace_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: float
) -> None:
    speeds = itertools.chain([1_000.0], itertools.repeat(1_000.0 * change))
    found = probed(monkeypatch, experiment(tmp_path), lambda _: next(speeds))
    assert found.best is found.trials[0]
    assert found.overrides == ()


def test_batches_that_a_run_cannot_fill_are_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = experiment(tmp_path, engine={"args": {"max_num_seqs": 128}})
    found = probed(monkeypatch, settings, lambda _: 100.0)
    assert {trial.settings["max_num_seqs"] for trial in found.trials} == {128, 64}


@case("How a run ends", "a setting of a probe with which the engine does not start",
      "the table names it, and the probe goes on")  # fmt: skip
def test_a_setting_that_does_not_start_is_a_trial_with_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starved(rewrite: RewriteConfig, alive: list[FakeEngine]) -> FakeEngine:
        if rewrite.engine.args.get("max_num_seqs", 0) > 32:
            raise EngineStartError("out of memory")
        return FakeEngine(rewrite, alive)

    found = probed(monkeypatch, experiment(tmp_path), lambda _: 100.0, build_engine=starved)
    (failed,) = [trial for trial in found.trials if trial.problem is not None]
    assert failed.settings["max_num_seqs"] == 64
    assert "out of memory" in str(failed.problem)


class Refusing(FakeEngine):
    """Refuses each request."""

    error: type[Exception] = RequestError

    async def generate(self, prompt: Prompt, count: int, request_id: str) -> Answer:
        """See `laclip_ray.rewriting.engines.engine.Engine`."""
        await asyncio.sleep(0.001)
        raise self.error("request_refused")


class Dying(Refusing):
    """Dies of the first request."""

    error = EngineDiedError


@case("How a run ends", "a probe of an engine that does not start or dies as it is configured", "incomplete, no record",
      exit_code=3)  # fmt: skip
@pytest.mark.parametrize(("engine", "reason"), [(Refusing, "requests failed"), (Dying, "request_refused"),
                                                (None, "out of memory")])  # fmt: skip
def test_an_engine_that_does_not_run_as_configured_ends_the_probe(
    tmp_path: Path, engine: type[FakeEngine] | None, reason: str
) -> None:
    alive: list[FakeEngine] = []

    def build(rewrite: RewriteConfig, seed: int) -> Any:
        if engine is None:
            raise EngineStartError("out of memory")
        return engine(rewrite, alive)

    settings = experiment(tmp_path)
    with pytest.raises(IncompleteError, match=f"cannot be measured as it is configured: .*{reason}"):
        run_probe(settings, 20 * SECONDS, build_engine=build)  # time for a request on a machine with other work
    assert not alive
    assert read_probe(settings.rewrite_output) is None


def test_ctrl_c_stops_the_engine(tmp_path: Path) -> None:
    alive: list[FakeEngine] = []

    class Interrupted(FakeEngine):
        async def generate(self, prompt: Prompt, count: int, request_id: str) -> Answer:
            raise KeyboardInterrupt

    settings = experiment(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_probe(settings, 60.0, build_engine=lambda rewrite, seed: Interrupted(rewrite, alive))
    assert not alive
    assert not storage.exists(storage.join(settings.rewrite_output, "lease.json"))


def test_captions_without_text_are_nothing_to_probe_with(tmp_path: Path) -> None:
    settings = experiment(tmp_path)
    (tmp_path / "data.jsonl").write_text('{"caption": " "}\n' * 9)
    message = r"^data\.path: no caption of the shards read can be rewritten, so there is nothing to probe with; look at"
    with pytest.raises(UserError, match=message):
        run_probe(settings, SECONDS)


def test_a_configuration_for_gpus_is_refused_without_one(tmp_path: Path) -> None:
    for engine in ({"gpus_per_actor": 1.0}, {"tensor_parallel_size": 2}, {"accelerator_type": "H100"}):
        with pytest.raises(UserError, match=r"rewrite\.engine: asks for GPUs"):
            run_probe(experiment(tmp_path, engine=engine), SECONDS)


def test_tokens_are_counted_after_the_warm_up(tmp_path: Path) -> None:
    engine = FakeEngine(experiment(tmp_path).rewrite, [])
    prompts = (Prompt("head", f"caption {number}", "") for number in itertools.count())
    counts, counted_s = asyncio.run(probe._write(engine, prompts, 2, 4, SECONDS))
    assert 0.75 * SECONDS <= counted_s < 20 * SECONDS
    assert counts.requests > 0
    assert (counts.prompt_tokens, counts.cached_tokens, counts.output_tokens) == tuple(
        number * counts.requests for number in (100, 80, 20)
    )


def test_prompts_repeat_when_the_captions_end_and_requests_of_a_head_stand_together() -> None:
    sets = {name: load_prompt_set(name) for name in ("crowd", "assistant_vivid")}
    rewrite = RewriteConfig(model="demo-rewriter", heads=4)
    heads = build_heads(rewrite, sets, choose_heads(rewrite, sets, 0, "memory://nowhere"))
    captions = [(str(number), f"a cup {number}") for number in range(50)]
    prompts = prompts_of(heads, captions, 0)
    first = list(itertools.islice(prompts, 100))
    assert {prompt.caption for prompt in first} == {text for _, text in captions}
    assert len({prompt.before for prompt in first}) == 8
    changes = sum(before.before != after.before for before, after in itertools.pairwise(first))
    assert changes == 7
    assert list(itertools.islice(prompts, 100)) == first


def test_a_record_is_of_the_same_recipes_and_hardware() -> None:
    record = ProbeRecord("m", {"a": "1", "b": "2"}, "1 x GPU", {}, 100.0, (), {}, "2026-11-28T00:00:00+00:00")
    speed = EngineSpeed(hardware={"1 x GPU"})
    assert record.is_of({"a": "1"}, speed)
    assert record.is_of({"a": "1", "b": "2"}, speed)
    assert not record.is_of({"a": "2"}, speed)
    assert not record.is_of({"c": "1"}, speed)
    assert not record.is_of({"a": "1"}, EngineSpeed(hardware={"1 x GPU", "1 x other"}))
    assert not record.is_of({"a": "1"}, EngineSpeed())


def test_the_fragment_is_a_part_of_a_configuration() -> None:
    text = fragment({"cpu_threads": 1, "max_num_seqs": 256})
    assert yaml.safe_load(text) == {"rewrite": {"engine": {"cpu_threads": 1, "args": {"max_num_seqs": 256}}}}


def test_a_later_run_prints_its_share_of_the_bare_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = experiment(tmp_path)
    found = probed(monkeypatch, settings, lambda _: 400.0)
    speed = EngineSpeed(output_tokens=3_000, busy_s=10.0, hardware={found.record.hardware})
    assert pipeline._bare_tokens_per_s(find_backlog(settings), speed) == pytest.approx(400.0, rel=1e-3)
    other = with_overrides(settings, {"rewrite.sampling.temperature": 0.5})
    assert pipeline._bare_tokens_per_s(find_backlog(other), speed) is None
    to = Console(file=io.StringIO(), width=200)
    costs = {"money": None, "cost_per_thousand_accepted": None, "cached_share": 0.5}
    numbers = dict.fromkeys(("engine_hours", "gpu_hours", "prompt_tokens", "output_tokens"), 1)
    print_rewriting(to, RewritingResult(costs={**costs, **numbers}, speed=speed, bare_tokens_per_s=400.0), "out")
    print_probe(to, found)
    printed = to.file.getvalue()  # type: ignore[attr-defined]
    assert "this run: 300 output tokens/s an engine, 75% of the bare engine's 400 (laclip rewrites probe)" in printed
    assert "no setting was notably faster than the configured one" in printed
    assert str(found.files[0]) in printed.replace("\n", "")


def test_the_verb_prints_each_trial_and_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = experiment(tmp_path)
    found = probed(monkeypatch, settings, lambda rewrite: 5.0 * rewrite.engine.args.get("max_num_seqs", 32))
    asked: list[float] = []

    def answer(experiment: Experiment, seconds: float, on_trial: Callable[[Trial], None]) -> ProbeResult:
        assert experiment.rewrite == settings.rewrite
        asked.append(seconds)
        for trial in found.trials:
            on_trial(trial)
        return found

    monkeypatch.setattr(probe, "run_probe", answer)
    (tmp_path / "config.yaml").write_text(to_yaml(settings))
    main(["rewrites", "probe", str(tmp_path / "config.yaml"), "--seconds", "7"])
    printed = capsys.readouterr().out
    assert asked == [7.0]
    assert "best setting: rewrite.engine.args.max_num_seqs=64" in printed
    assert printed.count("tokens/s (started in") == len(found.trials)


@case("How a run ends", "a damaged `probe.json` beside rewrite sets", "a warning; the run does not compare itself",
      exit_code=0)  # fmt: skip
def test_a_damaged_record_ends_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = experiment(tmp_path)
    storage.write_bytes(storage.join(settings.rewrite_output, "probe.json"), b"{")
    assert pipeline._bare_tokens_per_s(find_backlog(settings), EngineSpeed()) is None
    assert any("probe.json" in message for message in caplog.messages)
