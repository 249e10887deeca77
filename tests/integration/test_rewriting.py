"""The rewriting pipeline on a real Ray, with scripted engines that die, hang or answer by a rule."""

import asyncio
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laclip_ray import storage
from laclip_ray.config import Experiment, with_overrides
from laclip_ray.data.shards import list_shards, read_samples
from laclip_ray.errors import IncompleteError
from laclip_ray.models.building import create_model
from laclip_ray.models.files import save_model
from laclip_ray.models.specs import load_model_spec
from laclip_ray.rewriting.engines.engine import Answer, EngineDiedError
from laclip_ray.rewriting.running.backlog import find_backlog
from laclip_ray.rewriting.running.pipeline import claim_sets, finish_rewriting, run_rewriting
from laclip_ray.rewriting.running.result import RewritingResult
from laclip_ray.rewriting.storing.sets import SetSelection, configured_sets
from laclip_ray.rewriting.storing.store import RewriteSet
from tests.cases import case
from tests.integration.conftest import build_experiment, good_samples, jpeg, write_shard
from tests.integration.scripted_engine import EMPTY, POISON, TOO_LONG, ScriptedEngine, SeededEngine, seeded_text

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

MakeExperiment = Callable[..., Experiment]


def outcomes(experiment: Experiment, prompt_set: str = "crowd") -> dict[str, str | None]:
    """By id, over all committed shards: None if a rewrite was accepted, else the last reason."""
    rewrite_set = find_backlog(experiment).sets[prompt_set]
    reason_of: dict[str, str | None] = {}
    for shard, revision in rewrite_set.committed_revisions().items():
        reasons: dict[str, list[str | None]] = {}
        for row in rewrite_set.read(shard, revision).to_pylist():
            reasons.setdefault(row["id"], []).append(row["reason"])
        assert not reasons.keys() & reason_of.keys(), "an id is in two shards"
        reason_of |= {sample_id: None if None in tried else tried[-1] for sample_id, tried in reasons.items()}
    return reason_of


def all_ids(experiment: Experiment) -> set[str]:
    return {
        sample.id for shard in list_shards(experiment.data) for sample in read_samples(shard, experiment.data, False)
    }


SHARDS, ROWS = 3, 6
"""Of the plain run."""


@pytest.fixture(scope="module")
def plain_run(local_ray: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RewritingResult]:
    """A finished run with two prompt sets over ordinary captions: its directory, and its result."""
    directory = tmp_path_factory.mktemp("plain")
    for number in range(SHARDS):
        write_shard(directory / "data" / f"{number}.tar", good_samples(number * ROWS, ROWS))
    return directory, run_rewriting(build_experiment(directory), ScriptedEngine)


@pytest.fixture
def rewritten(plain_run: tuple[Path, RewritingResult], tmp_path: Path) -> Experiment:
    """The experiment of the plain run, with data and rewrites of the test's own."""
    for name in ("data", "out"):
        shutil.copytree(plain_run[0] / name, tmp_path / name)
    return build_experiment(tmp_path)


def test_every_caption_has_one_outcome_and_a_rerun_starts_no_engine(
    plain_run: tuple[Path, RewritingResult], rewritten: Experiment
) -> None:
    first = plain_run[1]
    assert (first.commits, first.shards_done_before) == (2 * SHARDS, 0)
    assert outcomes(rewritten) == dict.fromkeys(all_ids(rewritten))
    second = run_rewriting(rewritten, NoEngine)
    assert (second.commits, len(second.engines), second.shards_done_before) == (0, 0, SHARDS)
    assert second.statistics == first.statistics


SLOTS = 2
"""Rewrites of each odd caption."""


@pytest.fixture(scope="module")
def odd(local_ray: Any, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """A finished run over a shard of bad captions, one of a caption of two lines, and one of equal captions."""
    directory, picture = tmp_path_factory.mktemp("odd"), jpeg(0)
    captions: dict[str, list[tuple[str, bytes | None]]] = {
        "bad": [
            ("good", b"a plain caption"),
            ("missing", None),
            ("empty", b"  \n"),
            ("long", b"word " * 2_000),
            ("number", b"12.5"),
            ("bytes", b"caf\xe9 table"),
            ("lines", b"first line\nsecond line"),
            ("separator", b"before => after"),
            ("twice", b"one of two"),
            ("twice", b"two of two"),
            ("refused", TOO_LONG.encode()),
            ("nothing", EMPTY.encode()),
        ],
        "lines": [("pair", b"one => two\nthree")],
        "equal": [(f"s{number}", b"the same caption") for number in range(5)],
    }
    for name, rows in captions.items():
        samples = [(key, {"jpg": picture} if text is None else {"jpg": picture, "txt": text}) for key, text in rows]
        write_shard(directory / "data" / f"{name}.tar", samples)
    experiment = build_experiment(directory, rewrite={"prompt_sets": ["crowd"], "rewrites_per_set": SLOTS})
    run_rewriting(experiment, ScriptedEngine)
    return experiment


def test_bad_captions_are_recorded_by_reason_and_named(odd: Experiment) -> None:
    counts = find_backlog(odd).sets["crowd"].committed()["bad.tar"].statistics
    reasons = {
        "missing": "caption_missing",
        "empty": "caption_empty",
        "long": "caption_too_long",
        "number": "nothing_to_rewrite",
        "refused": "prompt_too_long",
        "nothing": "empty",
    }
    accepted = ["good", "bytes", "lines", "separator", "twice", "twice#2"]
    found = outcomes(odd)
    assert {key: found[key] for key in (*reasons, *accepted)} == {**reasons, **dict.fromkeys(accepted)}
    rejected = {**dict.fromkeys(reasons.values(), SLOTS), "empty": 2 * SLOTS}
    assert counts.rejected == rejected, "a refused draw is drawn again"
    assert counts.unfilled == dict.fromkeys(reasons.values(), SLOTS)
    assert (counts.captions, counts.accepted, counts.captions_without_rewrite) == (12, 6 * SLOTS, 6)
    assert counts.named["caption_too_long"] == ["long"]
    noted = {"bytes": "caption_not_utf8", "lines": "caption_line_break", "twice#2": "duplicate_id"}
    for name, problem in {**noted, "separator": "separator_in_caption"}.items():
        assert counts.problems[problem] == 1
        assert counts.named[problem] == [name]
    # The summary file has the same counts.
    summary = storage.read_json(storage.join(odd.rewrite_output, "summary.json"))
    assert summary["complete"] is True
    assert summary["prompt_sets"]["crowd"]["rejected"] == rejected


def test_a_prompt_with_a_bad_caption_still_has_one_line_a_pair(odd: Experiment) -> None:
    draws = find_backlog(odd).sets["crowd"].read("lines.tar", 0)
    expected = [f"a picture of one -> two three, number {slot}" for slot in range(SLOTS)]
    assert draws.column("text").to_pylist() == expected
    assert draws.column("caption").to_pylist() == ["one => two\nthree"] * SLOTS


def test_equal_captions_are_generated_once_and_charged_once(odd: Experiment) -> None:
    crowd = find_backlog(odd).sets["crowd"]
    counts = crowd.committed()["equal.tar"].statistics
    draws = crowd.read("equal.tar", 0).to_pylist()
    assert (counts.captions, counts.accepted) == (5, 5 * SLOTS)
    assert len({row["text"] for row in draws}) == SLOTS
    assert sum(row["prompt_tokens"] > 0 for row in draws) == 1
    assert sum(row["output_tokens"] > 0 for row in draws) == SLOTS
    assert counts.reused == 4


def test_another_gate_judges_again_without_an_engine(rewritten: Experiment) -> None:
    strict = with_overrides(rewritten, {"rewrite.gate.min_words": 50})
    for _ in range(2):  # the second run has no work left
        with pytest.raises(IncompleteError, match=rf"^no rewrite was accepted: too_short {2 * SHARDS * ROWS}\."):
            run_rewriting(strict, NoEngine)
    assert set(outcomes(strict).values()) == {"too_short"}
    assert outcomes(rewritten) == dict.fromkeys(all_ids(rewritten)), "the first gate's verdicts are kept"


class NoEngine(ScriptedEngine):
    """Must not be asked."""

    async def generate(self, prompt: str, count: int, request_id: str) -> Answer:
        """See `laclip_ray.rewriting.engines.engine.Engine`."""
        raise EngineDiedError("an engine was asked")


@case(
    "Reading data",
    "a model that fails for every caption of a large data set",
    "the run ends early, committed shards stay; a rerun asks no engine",
    exit_code=3,
    counted_as="prompt_too_long",
)
def test_a_run_whose_rewrites_fail_ends_early_and_a_rerun_asks_no_engine(
    tmp_path: Path, make_experiment: MakeExperiment
) -> None:
    (tmp_path / "data").mkdir()
    for shard in range(12):
        rows = [f"{TOO_LONG} {shard} {row}" for row in range(400)]
        (tmp_path / "data" / f"{shard:02d}.csv").write_text("caption\n" + "\n".join(rows))
    experiment = make_experiment(rewrite={"prompt_sets": ["crowd"], "engine": {"shards_in_flight": 1}})
    with pytest.raises(IncompleteError, match=r"rewrite\.max_failed_share allows 50\.0%: prompt_too_long"):
        run_rewriting(experiment, ScriptedEngine)
    backlog = find_backlog(experiment)
    committed = len(backlog.committed["crowd"])
    assert 3 <= committed < 12
    with pytest.raises(IncompleteError, match="the same command ends in the same way"):
        run_rewriting(experiment, NoEngine)
    # The end may have cut a commit between its draws and its verdicts. A rerun judges such draws.
    assert len(find_backlog(experiment).committed["crowd"]) == committed + len(backlog.to_judge)
    healed = with_overrides(experiment, {"rewrite.max_failed_share": 1.0})
    with pytest.raises(IncompleteError, match="no rewrite was accepted: prompt_too_long 4,800"):
        run_rewriting(healed, ScriptedEngine)


def test_a_caption_that_kills_its_engine_is_found_and_named_and_the_rest_is_rewritten(
    tmp_path: Path, make_experiment: MakeExperiment
) -> None:
    write_shard(tmp_path / "data" / "0.tar", good_samples(0, 4))
    killer = ("killer", {"jpg": jpeg(0), "txt": f"a {POISON} pill".encode()})
    write_shard(tmp_path / "data" / "1.tar", [*good_samples(10, 11), killer, *good_samples(30, 8)])
    experiment = make_experiment(rewrite={"prompt_sets": ["crowd"]})
    with pytest.raises(IncompleteError, match="killer"):
        run_rewriting(experiment, ScriptedEngine)
    assert outcomes(experiment) == {**dict.fromkeys(all_ids(experiment)), "killer": "engine_died"}
    left = storage.list_files(storage.join(experiment.rewrite_output, "crowd", "attempts"))
    assert not left, "a committed shard still has attempts"
    with pytest.raises(IncompleteError, match="killer"):
        run_rewriting(experiment, partial(ScriptedEngine, delay_s=1e9))  # starts no engine
    healed = run_rewriting(experiment, HealedEngine, retry=["engine_died"])
    assert (healed.commits, healed.statistics["crowd"].captions_without_rewrite) == (1, 0)
    assert outcomes(experiment) == dict.fromkeys(all_ids(experiment))


class HealedEngine(ScriptedEngine):
    """No caption kills it."""

    async def generate(self, prompt: str, count: int, request_id: str) -> Answer:
        """See `laclip_ray.rewriting.engines.engine.Engine`."""
        return await super().generate(prompt.replace(POISON, "sugar"), count, request_id)


def test_a_refused_draw_is_drawn_again_and_the_first_accepted_one_is_read(
    tmp_path: Path, make_experiment: MakeExperiment
) -> None:
    write_shard(tmp_path / "data" / "0.tar", good_samples(0, 200))
    experiment = make_experiment(rewrite={"prompt_sets": ["crowd"], "redraws": 2})
    counts = run_rewriting(experiment, SeededEngine).statistics["crowd"]
    (rewrite_set,) = configured_sets(SetSelection.of(experiment)).sets
    rows = rewrite_set.read("0.tar", 0).to_pylist()
    expected = {}
    for row in rows:
        assert row["text"] == seeded_text(row["caption"], 0, row["attempt"]).strip()
        if row["reason"] is None:
            expected[row["id"], row["caption_hash"]] = [row["text"]]
    accepted = rewrite_set.accepted("0.tar")
    assert accepted is not None
    assert {key: texts for key, texts in accepted.items() if texts} == expected
    assert max(row["attempt"] for row in rows) in (1, 2)
    assert counts.rejected.total() > counts.unfilled.total()
    assert counts.accepted + counts.unfilled.total() == 200


def test_more_rewrites_draw_only_the_missing_ones(rewritten: Experiment) -> None:
    experiment = with_overrides(rewritten, {"rewrite.prompt_sets": ["crowd"]})
    (before,) = configured_sets(SetSelection.of(experiment)).sets
    more = with_overrides(experiment, {"rewrite.rewrites_per_set": 3})
    counts = run_rewriting(more, LaterEngine).statistics["crowd"]
    assert counts.accepted == 3 * SHARDS * ROWS
    (after,) = configured_sets(SetSelection.of(more)).sets
    texts = [row["text"] for n in range(SHARDS) for row in after.read(f"{n}.tar", 1).to_pylist()]
    assert sum(text.startswith("later") for text in texts) == 2 * SHARDS * ROWS, "an existing rewrite was drawn again"
    kept = before.accepted("0.tar")
    assert kept is not None
    assert all(len(rewrites) == 1 for rewrites in kept.values()), "a reader got a revision made after it began"
    assert run_rewriting(more, NoEngine).commits == 0


class LaterEngine(ScriptedEngine):
    """Its answers start with `later`, unlike the first run's."""

    async def generate(self, prompt: str, count: int, request_id: str) -> Answer:
        """See `laclip_ray.rewriting.engines.engine.Engine`."""
        answer = await super().generate(prompt, count, request_id)
        return replace(answer, completions=[replace(one, text=f"later {one.text}") for one in answer.completions])


def test_changed_captions_are_noticed_and_only_they_are_rewritten(rewritten: Experiment, tmp_path: Path) -> None:
    experiment = with_overrides(rewritten, {"rewrite.prompt_sets": ["crowd"]})
    shard, samples = tmp_path / "data" / "0.tar", good_samples(0, ROWS)
    write_shard(shard, samples)
    os.utime(shard, (1, 1))
    assert run_rewriting(experiment, NoEngine).commits == 0, "the same captions in a newer file"
    assert not find_backlog(experiment).to_compare, "the new file was not recorded"
    samples[2] = (samples[2][0], {**samples[2][1], "txt": b"an edited caption"})
    write_shard(shard, samples[1:])
    result = run_rewriting(experiment, LaterEngine)
    assert (result.commits, result.statistics["crowd"].captions) == (1, SHARDS * ROWS - 1)
    rows = find_backlog(experiment).sets["crowd"].read("0.tar", 1).to_pylist()
    assert [row["id"] for row in rows] == [key for key, _ in samples[1:]]
    assert [row["text"].startswith("later") for row in rows] == [False, True, False, False, False]


def test_an_unreadable_shard_and_unreadable_rows_are_named_and_the_rest_is_done(
    tmp_path: Path, make_experiment: MakeExperiment
) -> None:
    table = pa.table({"caption": [f"caption number {number}" for number in range(500)]})
    (tmp_path / "data").mkdir()
    for name in ("good", "torn", "gone"):
        pq.write_table(table, tmp_path / "data" / f"{name}.parquet", use_dictionary=False)
    torn = tmp_path / "data" / "torn.parquet"
    content = bytearray(torn.read_bytes())
    content[10:400] = bytes(390)  # the footer is whole, so the shard is listed
    torn.write_bytes(content)
    backlog = find_backlog(make_experiment(rewrite={"prompt_sets": ["crowd"]}))
    claim_sets(backlog)
    (tmp_path / "data" / "gone.parquet").unlink()
    result = finish_rewriting(backlog, ScriptedEngine)
    assert "crowd/gone.parquet: cannot be read: FileNotFoundError" in str(result.incomplete)
    counts = result.statistics["crowd"]
    assert (counts.accepted, counts.unfilled) == (500, {"row_unreadable": 500})


@dataclass
class HeldEngine(ScriptedEngine):
    """Answers the captions of `held_shard` only after `others` shards of `rewrite_set` are committed."""

    rewrite_set: RewriteSet | None = None
    held_shard: str = ""
    others: int = 0

    async def generate(self, prompt: str, count: int, request_id: str) -> Answer:
        """See `laclip_ray.rewriting.engines.engine.Engine`."""
        _, shard, *_ = request_id.split("/")
        if shard == self.held_shard:
            assert self.rewrite_set is not None
            async with asyncio.timeout(60):  # the captions fail if the other shards wait for this one
                while len(self.rewrite_set.committed_revisions()) < self.others:
                    await asyncio.sleep(0.1)
        return await super().generate(prompt, count, request_id)


def test_a_slow_shard_does_not_keep_others_from_being_committed(
    tmp_path: Path, make_experiment: MakeExperiment
) -> None:
    for number in range(4):
        write_shard(tmp_path / "data" / f"{number}.tar", good_samples(number * 4, 4))
    experiment = make_experiment(rewrite={"prompt_sets": ["crowd"], "engine": {"shards_in_flight": 2}})
    rewrite_set = find_backlog(experiment).sets["crowd"]
    held = partial(HeldEngine, rewrite_set=rewrite_set, held_shard="0.tar", others=3)
    result = run_rewriting(experiment, held)
    assert (result.commits, result.statistics["crowd"].accepted) == (4, 16)
    assert len(result.engines) == 1


def test_a_new_picture_gate_refuses_rewrites_without_an_engine(rewritten: Experiment, tmp_path: Path) -> None:
    experiment = with_overrides(rewritten, {"rewrite.prompt_sets": ["crowd"]})
    spec = load_model_spec(experiment.model.name)
    (tmp_path / "clip").mkdir()
    save_model(tmp_path / "clip", create_model(spec, seed=3), spec)
    picture = {"rewrite.gate.picture": {"model": str(tmp_path / "clip"), "margin": 0.0}}
    result = run_rewriting(with_overrides(experiment, picture), NoEngine)
    counts = result.statistics["crowd"]
    assert not result.engines
    assert counts.accepted + counts.unfilled["unlike_picture"] == SHARDS * ROWS
    assert counts.unfilled["unlike_picture"] > 0
