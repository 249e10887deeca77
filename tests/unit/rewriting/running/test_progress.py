"""Reports are counted once each, and units that engines give back are drawn again or end the run."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from laclip_ray import storage
from laclip_ray.config import parse_experiment, with_overrides
from laclip_ray.rewriting.engines.engine import EngineStartError, VllmEngine
from laclip_ray.rewriting.engines.work import CacheWatch, EngineWork
from laclip_ray.rewriting.running import progress as module
from laclip_ray.rewriting.running.backlog import Backlog, find_backlog
from laclip_ray.rewriting.running.hooks import RunHooks
from laclip_ray.rewriting.running.pipeline import finish_rewriting
from laclip_ray.rewriting.running.progress import Progress
from laclip_ray.rewriting.running.result import BudgetReachedError, RewritingResult, StoppedError
from laclip_ray.rewriting.running.shortfall import ShortfallError
from laclip_ray.rewriting.storing import progress_file
from laclip_ray.rewriting.storing.committed import Committed, CommittedTable
from laclip_ray.rewriting.storing.progress_file import PROGRESS_FILE, ProgressFile, RewritingProgress
from laclip_ray.rewriting.storing.statistics import Statistics
from laclip_ray.rewriting.tables import REPORT_SCHEMA, Origin
from tests.cases import case
from tests.unit.conftest import write_tar

SHARDS = [f"{number}.tar" for number in range(6)]


class Reports:
    """A stream of reports, a block a report."""

    def __init__(self, *rows: Mapping[str, Any]) -> None:
        self.rows = rows

    def iter_batches(self, **_: object) -> Iterator[pa.Table]:
        for row in self.rows:
            yield pa.Table.from_pylist([row], schema=REPORT_SCHEMA)


def report(number: int, **fields: Any) -> dict[str, Any]:
    defaults = {"engine": "first", "captions": 5, "accepted": 4, "unfilled": '{"too_short": 1}', "gpu_s": 1.0}
    return {"shard": SHARDS[number], "prompt_set": "cleaned", **defaults, **fields}


def returned(number: int, engine: str) -> dict[str, Any]:
    return report(number, engine=engine, engine_start_failure="its GPU is gone", captions=0, accepted=0)


@pytest.fixture
def backlog(tmp_path: Path) -> Backlog:
    """Six shards to draw; an engine holds two at a time."""
    for name in SHARDS:
        write_tar(tmp_path / "data" / name, [("a.txt", b"a cup")])
    content = {
        "name": "progress",
        "output": str(tmp_path / "out"),
        "data": {"path": str(tmp_path / "data")},
        "rewrite": {"model": "demo-rewriter", "prompt_sets": ["cleaned"], "engine": {"shards_in_flight": 1}},
    }
    return find_backlog(parse_experiment(content))


@pytest.fixture
def start(backlog: Backlog) -> Callable[..., Progress]:
    def make(**hooks: Any) -> Progress:
        return Progress(backlog, RewritingResult(), RunHooks(**hooks), gpu_s=0.0, units=len(backlog.units))

    return make


def test_commits_and_failures_are_counted_and_settled(backlog: Backlog, start: Callable[..., Progress]) -> None:
    settled: list[tuple[str, int | None]] = []
    progress = start(on_settled=lambda *arguments: settled.append(arguments))
    reports = Reports(report(0), report(1, failure="cannot be read", accepted=0), report(2, engine=None))
    assert progress.follow(reports, backlog.to_draw) == []
    assert settled == [("0.tar", 4), ("1.tar", None), ("2.tar", 4)]
    assert (progress.result.commits, progress.result.engines) == (2, {"first"})
    assert progress.result.failures == {"cleaned/1.tar": "cannot be read"}
    assert progress.gpu_s == 3.0


def test_registers_are_updated_after_a_period_and_then_after_a_share_of_all(
    backlog: Backlog, start: Callable[..., Progress], monkeypatch: pytest.MonkeyPatch
) -> None:
    updated: list[int] = []
    monkeypatch.setattr(module, "_REGISTER_PERIOD", 1)
    monkeypatch.setattr(module, "_REGISTER_GROWTH", 1.0)
    progress = start()
    monkeypatch.setattr(module, "register_committed", lambda *_: updated.append(progress.result.commits))
    progress.follow(Reports(*map(report, range(6))), backlog.to_draw)
    assert updated == [1, 2, 4]


def test_units_given_back_are_left_for_the_next_round(backlog: Backlog, start: Callable[..., Progress]) -> None:
    progress = start()
    commits = [report(number) for number in (0, 1, 2, 3)]
    left = progress.follow(Reports(commits[0], returned(4, "lost"), *commits[1:], returned(5, "lost")), backlog.to_draw)
    assert [unit.shard for unit in left] == ["4.tar", "5.tar"]
    assert progress.follow(Reports(report(4), report(5)), left) == []


def test_a_unit_given_back_returns_to_the_queue_at_once(backlog: Backlog, start: Callable[..., Progress]) -> None:
    class Queue:
        """Records the shards given back."""

        def __init__(self) -> None:
            self.shards: list[str] = []

        def offer(self, items: Mapping[str, Mapping[str, str]]) -> None:
            raise AssertionError

        def take(self, ticket: int) -> Mapping[str, str]:
            raise AssertionError

        def give_back(self, shard: str, item: Mapping[str, str]) -> None:
            self.shards.append(shard)

    queue = Queue()
    reports = Reports(report(0), returned(1, "lost"), *(report(number) for number in range(1, 6)))
    assert start(queue=queue).follow(reports, backlog.to_draw) == []
    assert queue.shards == ["1.tar"]


def test_the_only_engine_that_does_not_start_ends_the_run(backlog: Backlog, start: Callable[..., Progress]) -> None:
    with pytest.raises(EngineStartError, match="its GPU is gone"):
        start().follow(Reports(returned(0, "lost")), backlog.to_draw)


def test_a_round_without_a_drawn_unit_ends_the_run(backlog: Backlog, start: Callable[..., Progress]) -> None:
    progress = start()
    left = progress.follow(Reports(report(0), *(returned(number, "lost") for number in (1, 2))), backlog.to_draw)
    with pytest.raises(EngineStartError):
        progress.follow(Reports(returned(1, "lost")), left)


def test_many_returns_without_a_commit_end_the_run(backlog: Backlog, start: Callable[..., Progress]) -> None:
    # Two engines are known, and each holds two shards: the fifth return in a row is one too many.
    returns = [returned(number, "lost") for number in (1, 2, 3, 4, 5)]
    assert start().follow(Reports(report(0), *returns[:4]), backlog.to_draw)
    with pytest.raises(EngineStartError):
        start().follow(Reports(report(0), *returns), backlog.to_draw)


def test_a_run_stops_on_request(backlog: Backlog, start: Callable[..., Progress]) -> None:
    with pytest.raises(StoppedError):
        start(should_stop=lambda: True).follow(Reports(report(0)), backlog.to_draw)


def test_a_spent_budget_ends_the_run_unless_everything_is_drawn(backlog: Backlog) -> None:
    limited = with_overrides(backlog.experiment, {"rewrite.budget.gpu_hours": 2 / 3600})
    units = backlog.to_draw[:2]
    progress = Progress(find_backlog(limited), RewritingResult(), RunHooks(), gpu_s=0.0)
    assert progress.follow(Reports(report(0), report(1)), units) == []
    progress = Progress(find_backlog(limited), RewritingResult(), RunHooks(), gpu_s=1.0)
    with pytest.raises(BudgetReachedError, match="gpu_hours"):
        progress.follow(Reports(report(0), report(1)), units)


# --- rewrites that fail


def failed(number: int, rows: int = 400, reason: str = "caption_missing") -> dict[str, Any]:
    return report(number, captions=rows, accepted=0, unfilled=json.dumps({reason: rows}))


@case(
    "Reading data",
    "rows without a usable caption, or requests that all fail, over at least 1,000 rows",
    "the run ends early; committed shards stay",
    exit_code=3,
    counted_as="caption_missing, request_failed, truncated, ...",
)
@pytest.mark.parametrize("reason", ["caption_missing", "request_failed", "truncated", "empty", "prompt_too_long"])
def test_a_run_of_failures_ends_before_the_other_shards_are_drawn(
    reason: str, backlog: Backlog, start: Callable[..., Progress]
) -> None:
    progress = start()
    reports = Reports(*(failed(number, reason=reason) for number in range(6)))
    with pytest.raises(ShortfallError, match=rf"100\.0% of the rewrites of 1,200 rows .* {reason} 1,200"):
        progress.follow(reports, backlog.to_draw)
    assert progress.result.commits == 3


def test_a_run_goes_on_below_the_limit_and_over_one_bad_shard(backlog: Backlog, start: Callable[..., Progress]) -> None:
    good = [report(number, captions=5_000, accepted=5_000, unfilled="{}") for number in range(2, 6)]
    assert start().follow(Reports(failed(0, rows=2_000), failed(1), *good), backlog.to_draw) == []


def test_the_setting_can_allow_failures(backlog: Backlog) -> None:
    lenient = find_backlog(with_overrides(backlog.experiment, {"rewrite.max_failed_share": 1.0}))
    progress = Progress(lenient, RewritingResult(), RunHooks(), gpu_s=0.0)
    assert progress.follow(Reports(*(failed(number) for number in range(6))), lenient.to_draw) == []


def test_a_rerun_counts_what_is_committed_but_not_what_it_draws_again(backlog: Backlog) -> None:
    origin = Origin("identity", "inputs", 1)
    bad = Statistics(500, 0, unfilled=Counter(truncated=500))
    committed = {"cleaned": CommittedTable.of({name: Committed(0, origin, bad, "") for name in SHARDS[:3]})}
    rest = replace(backlog, committed=committed, to_draw=backlog.to_draw[3:])
    limit = Progress(rest, RewritingResult(), RunHooks(), gpu_s=0.0).reached_limit()
    assert isinstance(limit, ShortfallError)
    retried = replace(rest, to_draw=backlog.to_draw)
    assert Progress(retried, RewritingResult(), RunHooks(), gpu_s=0.0).reached_limit() is None


def worked(number: int, cached_tokens: int) -> dict[str, Any]:
    """A report of 100 requests with prompts of 150 tokens."""
    work = EngineWork("1 x GPU", 528, 30.0, 20.0, 100, 15_000, cached_tokens, 2_000)
    return report(number, engine_work=work.to_json())


@case("How a run ends", "a language model that defeats the prefix cache (hybrid attention)",
      "one warning with the arithmetic; the run goes on")  # fmt: skip
def test_a_defeated_cache_is_warned_about_once(
    backlog: Backlog, start: Callable[..., Progress], caplog: pytest.LogCaptureFixture
) -> None:
    for cached_tokens, warnings in ((0, 1), (11_000, 0)):
        caplog.clear()
        progress = start()
        progress.cache = CacheWatch({"cleaned": 128.0}, heads=8)
        progress.follow(Reports(*(worked(number, cached_tokens) for number in range(6))), backlog.to_draw)
        assert sum("prefix cache" in message for message in caplog.messages) == warnings


def test_the_speed_of_a_run_is_that_of_its_engines(backlog: Backlog, start: Callable[..., Progress]) -> None:
    progress = start()
    progress.follow(Reports(worked(0, 0), worked(1, 0), report(2, engine=None)), backlog.to_draw)
    assert progress.result.speed.tokens_per_s == 4_000 / 20.0


def test_the_file_of_a_run_has_its_counts_from_the_start_and_after_each_period(
    backlog: Backlog, start: Callable[..., Progress], monkeypatch: pytest.MonkeyPatch
) -> None:
    def told() -> RewritingProgress:
        return RewritingProgress.from_json(storage.read_json(f"{backlog.experiment.rewrite_output}/{PROGRESS_FILE}"))

    class Watched(Reports):
        """Notes what the file says before each report."""

        def iter_batches(self, **_: object) -> Iterator[pa.Table]:
            for block in super().iter_batches():
                seen.append(told())
                yield block

    seen: list[RewritingProgress] = []
    monkeypatch.setattr(progress_file, "_PERIOD_S", 0.0)
    start().follow(Watched(report(0), report(1, failure="cut"), report(2)), backlog.to_draw)
    seen.append(told())
    assert [each.shards for each in seen] == [6, 6, 6, 6]
    assert [each.sets["cleaned"].captions for each in seen] == [0, 5, 5, 10]
    assert [each.failures for each in seen] == [{}, {}, {"cleaned/1.tar": "cut"}, {"cleaned/1.tar": "cut"}]


def test_a_run_that_ends_leaves_its_summary_and_no_progress(backlog: Backlog) -> None:
    output = backlog.experiment.rewrite_output
    ProgressFile(output).write(RewritingProgress(6, {}))  # a killed run's
    finish_rewriting(replace(backlog, to_draw=[]), VllmEngine)
    assert [storage.name_of(url) for url in storage.list_files(output) if "/cleaned/" not in url] == ["summary.json"]
