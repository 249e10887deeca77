"""The rewriting pipeline on a real Ray, with a scripted engine for what a real one cannot be told to do."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laclip_ray import storage
from laclip_ray.config import Experiment, with_overrides
from laclip_ray.data.shards import list_shards, read_samples
from laclip_ray.errors import IncompleteError
from laclip_ray.rewriting.pipeline import plan_work, run_rewriting
from tests.integration.conftest import good_samples, jpeg, write_shard
from tests.integration.scripted_engine import EMPTY, POISON, TOO_LONG, ScriptedEngine

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

MakeExperiment = Callable[..., Experiment]


def outcomes(experiment: Experiment, prompt_set: str = "crowd") -> dict[str, str | None]:
    """Id to the reason of its (only) draw, over all committed shards; every id must be there once."""
    rewrite_set = plan_work(experiment).sets[prompt_set]
    found: dict[str, str | None] = {}
    for shard in sorted(rewrite_set.committed_shards()):
        for row in storage.read_parquet(rewrite_set.verdicts_url(shard)).to_pylist():
            assert row["id"] not in found, f"{row['id']} twice"
            found[row["id"]] = row["reason"]
    return found


def all_ids(experiment: Experiment) -> set[str]:
    return {
        sample.id for shard in list_shards(experiment.data) for sample in read_samples(shard, experiment.data, False)
    }


def test_every_caption_has_one_outcome_and_a_rerun_starts_no_engine(
    tmp_path: Path, make_experiment: MakeExperiment
) -> None:
    for number in range(3):
        write_shard(tmp_path / "data" / f"{number}.tar", good_samples(number * 10, 10))
    experiment = make_experiment()
    first = run_rewriting(experiment, ScriptedEngine)
    assert (first.commits, first.shards_done_before) == (6, 0)
    assert outcomes(experiment) == dict.fromkeys(all_ids(experiment))
    second = run_rewriting(experiment, ScriptedEngine)
    assert (second.commits, len(second.engines), second.shards_done_before) == (0, 0, 3)
    assert second.statistics == first.statistics


def test_bad_captions_are_recorded_by_reason_and_named(tmp_path: Path, make_experiment: MakeExperiment) -> None:
    picture = jpeg(0)
    write_shard(
        tmp_path / "data" / "0.tar",
        [
            ("good", {"jpg": picture, "txt": b"a plain caption"}),
            ("missing", {"jpg": picture}),
            ("empty", {"jpg": picture, "txt": b"  \n"}),
            ("long", {"jpg": picture, "txt": b"word " * 2_000}),
            ("bytes", {"jpg": picture, "txt": b"caf\xe9 table"}),
            ("lines", {"jpg": picture, "txt": b"first line\nsecond line"}),
            ("separator", {"jpg": picture, "txt": b"before => after"}),
            ("twice", {"jpg": picture, "txt": b"one of two"}),
            ("twice", {"jpg": picture, "txt": b"two of two"}),
            ("refused", {"jpg": picture, "txt": TOO_LONG.encode()}),
            ("nothing", {"jpg": picture, "txt": EMPTY.encode()}),
        ],
    )
    experiment = make_experiment(rewrite={"prompt_sets": ["crowd"]})
    counts = run_rewriting(experiment, ScriptedEngine).statistics["crowd"]
    reasons = {
        "missing": "caption_missing",
        "empty": "caption_empty",
        "long": "caption_too_long",
        "refused": "prompt_too_long",
        "nothing": "empty",
    }
    accepted = ["good", "bytes", "lines", "separator", "twice", "twice#2"]
    assert outcomes(experiment) == {**reasons, **dict.fromkeys(accepted)}
    assert counts.rejected == dict.fromkeys(reasons.values(), 1)
    assert (counts.captions, counts.accepted, counts.captions_without_rewrite) == (11, 6, 5)
    assert counts.named["caption_too_long"] == ["long"]
    noted = {"bytes": "caption_not_utf8", "lines": "caption_line_break", "twice#2": "duplicate_id"}
    for name, problem in {**noted, "separator": "separator_in_caption"}.items():
        assert counts.problems[problem] == 1
        assert counts.named[problem] == [name]
    # A summary for people and programs says the same.
    summary = storage.read_json(storage.join(experiment.rewrite_output, "summary.json"))
    assert summary["complete"] is True
    assert summary["prompt_sets"]["crowd"]["rejected"] == counts.rejected


def test_a_prompt_with_a_bad_caption_still_has_one_line_a_pair(tmp_path: Path, make_experiment: MakeExperiment) -> None:
    write_shard(tmp_path / "data" / "0.tar", [("lines", {"jpg": jpeg(0), "txt": b"one => two\nthree"})])
    experiment = make_experiment(rewrite={"prompt_sets": ["crowd"]})
    run_rewriting(experiment, ScriptedEngine)
    draws = storage.read_parquet(plan_work(experiment).sets["crowd"].draws_url("0.tar"))
    assert draws.column("text").to_pylist() == ["a picture of one -> two three, number 0"]
    assert draws.column("caption").to_pylist() == ["one => two\nthree"]


def test_equal_captions_are_generated_once_and_charged_once(tmp_path: Path, make_experiment: MakeExperiment) -> None:
    picture = jpeg(0)
    samples = [(f"s{number}", {"jpg": picture, "txt": b"the same caption"}) for number in range(5)]
    write_shard(tmp_path / "data" / "0.tar", samples)
    experiment = make_experiment(rewrite={"prompt_sets": ["crowd"], "rewrites_per_set": 2})
    counts = run_rewriting(experiment, ScriptedEngine).statistics["crowd"]
    draws = storage.read_parquet(plan_work(experiment).sets["crowd"].draws_url("0.tar")).to_pylist()
    assert (counts.captions, counts.accepted) == (5, 10)
    assert len({row["text"] for row in draws}) == 2
    assert sum(row["prompt_tokens"] > 0 for row in draws) == 1
    assert sum(row["output_tokens"] > 0 for row in draws) == 2


def test_another_gate_judges_again_without_an_engine(tmp_path: Path, make_experiment: MakeExperiment) -> None:
    write_shard(tmp_path / "data" / "0.tar", good_samples(0, 8))
    experiment = make_experiment()
    run_rewriting(experiment, ScriptedEngine)
    strict = with_overrides(experiment, {"rewrite.gate.min_words": 50})
    outcome = run_rewriting(strict, ScriptedEngine)
    assert (outcome.commits, len(outcome.engines)) == (2, 0)
    assert outcome.statistics["crowd"].rejected == {"too_short": 8}
    assert outcomes(experiment) == dict.fromkeys(all_ids(experiment)), "the first gate's verdicts are kept"


def test_a_shard_that_kills_its_engine_is_left_out_and_named_and_the_rest_is_done(
    tmp_path: Path, make_experiment: MakeExperiment
) -> None:
    write_shard(tmp_path / "data" / "0.tar", good_samples(0, 4))
    write_shard(tmp_path / "data" / "1.tar", [("killer", {"jpg": jpeg(0), "txt": f"a {POISON} pill".encode()})])
    experiment = make_experiment(
        rewrite={"prompt_sets": ["crowd"], "max_engine_deaths": 2, "engine": {"shards_in_flight": 1}}
    )
    with pytest.raises(IncompleteError, match=r"crowd/1\.tar: 2 engines died"):
        run_rewriting(experiment, ScriptedEngine)
    assert set(outcomes(experiment)) == {f"s{number:05d}" for number in range(4)}
    assert storage.read_json(storage.join(experiment.rewrite_output, "summary.json"))["complete"] is False


def test_an_unreadable_shard_is_named_and_the_rest_is_done(tmp_path: Path, make_experiment: MakeExperiment) -> None:
    table = pa.table({"caption": [f"caption number {number}" for number in range(500)]})
    for name in ("good", "torn"):
        (tmp_path / "data").mkdir(exist_ok=True)
        pq.write_table(table, tmp_path / "data" / f"{name}.parquet", use_dictionary=False)
    torn = tmp_path / "data" / "torn.parquet"
    content = bytearray(torn.read_bytes())
    content[10:400] = bytes(390)  # the footer is whole, so the shard is listed
    torn.write_bytes(content)
    experiment = make_experiment(rewrite={"prompt_sets": ["crowd"]})
    with pytest.raises(IncompleteError, match=r"crowd/torn\.parquet: cannot be read"):
        run_rewriting(experiment, ScriptedEngine)
    assert len(outcomes(experiment)) == 500


def test_a_slow_shard_does_not_keep_others_from_being_committed(
    tmp_path: Path, make_experiment: MakeExperiment
) -> None:
    for number in range(4):
        write_shard(tmp_path / "data" / f"{number}.tar", good_samples(number * 4, 4))
    experiment = make_experiment(rewrite={"prompt_sets": ["crowd"]})
    outcome = run_rewriting(experiment, partial(ScriptedEngine, delay_s=0.2))
    assert outcome.commits == 4
    assert len(outcome.engines) == 1
