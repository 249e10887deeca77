"""The backlog holds exactly the missing work, and finding it writes no file."""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laclip_ray import storage
from laclip_ray.config import Experiment, parse_experiment, with_overrides
from laclip_ray.data.reading import reading_of
from laclip_ray.data.shards import read_samples
from laclip_ray.errors import UserError
from laclip_ray.rewriting.recipe import build_recipe
from laclip_ray.rewriting.running.backlog import Backlog, check_prompts, find_backlog
from laclip_ray.rewriting.storing.committed import digest_inputs
from laclip_ray.rewriting.storing.store import (
    commit_verdicts,
    open_for_writing,
    restamp_verdicts,
    write_draws,
)
from laclip_ray.rewriting.tables import Origin, WorkUnit
from tests.unit.rewriting.shards import Draw, reasons_of, table_of

ROWS = 3
Reasons = Mapping[str, str]
"""By id, the reason against a caption's first draw."""


def write_table(path: Path, rows: int = ROWS) -> Path:
    """Write a TSV or Parquet file of captions, by the name's ending."""
    ids = [f"{path.stem}-{row}" for row in range(rows)]
    captions = [f"caption {row}" for row in range(rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"key": ids, "caption": captions}), path)
    else:
        lines = ["key\tcaption", *(f"{key}\t{caption}" for key, caption in zip(ids, captions, strict=True))]
        path.write_text("\n".join(lines))
    return path


@pytest.fixture(params=["tsv", "parquet"])
def experiment(request: pytest.FixtureRequest, tmp_path: Path) -> Experiment:
    """Three shards for one prompt set."""
    for name in ("a", "b", "sub/c"):
        write_table(tmp_path / "data" / f"{name}.{request.param}")
    content = {
        "name": "plans",
        "output": str(tmp_path / "out"),
        "data": {"path": str(tmp_path / "data"), "id_column": "key"},
        "rewrite": {"model": "demo-rewriter", "prompt_sets": ["cleaned"]},
    }
    return parse_experiment(content)


def draws_of(backlog: Backlog, unit: WorkUnit, refused: Reasons) -> list[Draw]:
    samples = read_samples(backlog.shards[unit.shard], backlog.experiment.data, with_images=False)
    count = backlog.experiment.rewrite.rewrites_per_set
    return [
        Draw(sample.id, sample.caption, f"text {slot}", refused.get(sample.id) if slot == 0 else None, slot)
        for sample in samples
        for slot in range(count)
    ]


def origin_of(backlog: Backlog, unit: WorkUnit) -> Origin:
    samples = list(read_samples(backlog.shards[unit.shard], backlog.experiment.data, with_images=False))
    inputs = digest_inputs((sample.id for sample in samples), (sample.caption_hash for sample in samples))
    shard = backlog.shards[unit.shard]
    reading = reading_of(shard, backlog.experiment.data)
    return Origin(shard.file_identity, inputs, backlog.experiment.rewrite.rewrites_per_set, reading=reading)


def draw(backlog: Backlog, unit: WorkUnit, refused: Reasons) -> None:
    """Write the draws of a unit, as a run does: its recipe claims the directory first."""
    rewrite, prompt_set = backlog.experiment.rewrite, backlog.prompt_sets[unit.prompt_set]
    recipe = build_recipe(rewrite, prompt_set, backlog.experiment.seed, backlog.heads[unit.prompt_set])
    rewrite_set = backlog.sets[unit.prompt_set]
    open_for_writing(rewrite_set.location, recipe, rewrite_set.gate, "rewrite.output")
    write_draws(
        backlog.sets[unit.prompt_set],
        unit.shard,
        unit.revision,
        table_of(draws_of(backlog, unit, refused)),
        origin_of(backlog, unit),
    )


def judge(backlog: Backlog, unit: WorkUnit, refused: Reasons) -> None:
    """Commit a unit after its draws."""
    draws = draws_of(backlog, unit, refused)
    commit_verdicts(
        backlog.sets[unit.prompt_set],
        unit.shard,
        unit.revision,
        table_of(draws),
        reasons_of(draws),
        origin_of(backlog, unit),
    )


def do(backlog: Backlog, refused: Reasons | None = None, only: Callable[[WorkUnit], bool] = lambda unit: True) -> None:
    """Do the backlog, or a part of it."""
    for unit in filter(only, backlog.to_draw):
        draw(backlog, unit, refused or {})
    for unit in filter(only, [*backlog.to_draw, *backlog.to_judge]):
        judge(backlog, unit, refused or {})


def units_by_kind(backlog: Backlog) -> dict[str, list[WorkUnit]]:
    """The units left, by kind."""
    kinds = {"draw": backlog.to_draw, "judge": backlog.to_judge, "compare": backlog.to_compare}
    return {kind: units for kind, units in kinds.items() if units}


def more(experiment: Experiment, rewrites_per_set: int) -> Experiment:
    return with_overrides(experiment, {"rewrite.rewrites_per_set": rewrites_per_set})


def names(experiment: Experiment) -> list[str]:
    return sorted(find_backlog(experiment).shards)


def test_at_first_every_shard_is_drawn_once_for_each_set(experiment: Experiment) -> None:
    both = with_overrides(experiment, {"rewrite.prompt_sets": ["cleaned", "crowd"]})
    backlog = find_backlog(both)
    shards = [unit.shard for unit in backlog.to_draw]
    assert sorted(backlog.shards) == shards[::2] == shards[1::2]
    assert {(unit.prompt_set, unit.shard) for unit in backlog.to_draw} == {
        (name, shard) for name in ("cleaned", "crowd") for shard in backlog.shards
    }
    assert {(unit.revision, unit.previous) for unit in backlog.to_draw} == {(0, None)}
    assert units_by_kind(backlog).keys() == {"draw"}
    assert backlog.untouched_shards == 0


def test_finding_the_backlog_writes_no_file(experiment: Experiment, tmp_path: Path) -> None:
    find_backlog(experiment)
    assert not (tmp_path / "out").exists()
    do(find_backlog(experiment), {"a-0": "too_short"})

    def content() -> dict[str, bytes]:
        return {url: storage.read_bytes(url) for url in storage.list_files(str(tmp_path / "out"))}

    before = content()
    assert find_backlog(more(experiment, 3), retry=["too_short"]).units
    assert content() == before


@pytest.fixture
def done(experiment: Experiment) -> Experiment:
    """All three shards are committed."""
    do(find_backlog(experiment))
    return experiment


def test_the_backlog_is_empty_when_everything_is_committed(done: Experiment) -> None:
    backlog = find_backlog(done)
    assert backlog.units == []
    assert backlog.untouched_shards == 3
    committed = backlog.committed["cleaned"]
    assert {name: shard.revision for name, shard in committed.items()} == dict.fromkeys(backlog.shards, 0)
    assert {shard.statistics.accepted for shard in committed.values()} == {ROWS}


def test_only_shards_without_draws_are_drawn(experiment: Experiment) -> None:
    first, *others = names(experiment)
    do(find_backlog(experiment), only=lambda unit: unit.shard == first)
    backlog = find_backlog(experiment)
    assert units_by_kind(backlog) == {"draw": [WorkUnit("cleaned", shard, 0) for shard in others]}
    assert backlog.untouched_shards == 1


def test_a_committed_set_is_not_drawn_again_for_another_set(done: Experiment) -> None:
    both = with_overrides(done, {"rewrite.prompt_sets": ["cleaned", "crowd"]})
    backlog = find_backlog(both)
    assert units_by_kind(backlog) == {"draw": [WorkUnit("crowd", shard, 0) for shard in names(done)]}
    assert backlog.untouched_shards == 0


def test_draws_without_verdicts_are_judged_at_their_revision(experiment: Experiment) -> None:
    backlog = find_backlog(experiment)
    for unit in backlog.to_draw:
        draw(backlog, unit, {})
    assert units_by_kind(find_backlog(experiment)) == {"judge": backlog.to_draw}


def test_after_a_stop_between_draws_and_verdicts_the_newest_draws_are_judged(done: Experiment) -> None:
    first, *others = names(done)
    raised = more(done, 2)
    backlog = find_backlog(raised)
    do(backlog, only=lambda unit: unit.shard in others)
    draw(backlog, next(unit for unit in backlog.to_draw if unit.shard == first), {})
    assert units_by_kind(find_backlog(raised)) == {"judge": [WorkUnit("cleaned", first, 1)]}


def test_another_gate_judges_every_shard_at_its_revision(done: Experiment) -> None:
    first, *others = names(done)
    do(find_backlog(more(done, 2)), only=lambda unit: unit.shard == first)
    strict = with_overrides(done, {"rewrite.gate.min_words": 5})
    judged = [WorkUnit("cleaned", first, 1), *(WorkUnit("cleaned", shard, 0) for shard in others)]
    assert units_by_kind(find_backlog(strict)) == {"judge": judged}
    do(find_backlog(strict))
    assert find_backlog(strict).units == []
    assert find_backlog(done).units == []


def test_more_rewrites_are_drawn_to_the_next_revision(done: Experiment) -> None:
    raised = more(done, 2)
    assert units_by_kind(find_backlog(raised)) == {
        "draw": [WorkUnit("cleaned", shard, 1, previous=0) for shard in names(done)]
    }
    do(find_backlog(raised))
    assert find_backlog(raised).units == []


def test_fewer_rewrites_leave_the_backlog_empty(done: Experiment) -> None:
    do(find_backlog(more(done, 3)))
    assert find_backlog(done).units == []
    assert find_backlog(more(done, 2)).units == []


def test_new_draws_of_a_set_share_one_revision(done: Experiment) -> None:
    first, second, third = names(done)
    do(find_backlog(more(done, 2)), only=lambda unit: unit.shard == second)
    units = find_backlog(more(done, 3)).to_draw
    assert [(unit.shard, unit.previous, unit.revision) for unit in units] == [
        (first, 0, 2),
        (second, 1, 2),
        (third, 0, 2),
    ]


def touch(path: Path) -> None:
    """Give the file a later time, as a fresh copy has."""
    later_ns = path.stat().st_mtime_ns + 1_000_000_000
    os.utime(path, ns=(later_ns, later_ns))


def test_a_replaced_file_is_compared(done: Experiment, tmp_path: Path) -> None:
    (replaced,) = (tmp_path / "data").glob("b.*")
    touch(replaced)
    backlog = find_backlog(done)
    assert units_by_kind(backlog) == {"compare": [WorkUnit("cleaned", replaced.name, 1, previous=0)]}
    assert backlog.untouched_shards == 2


def test_a_file_with_the_same_captions_is_compared_once(done: Experiment, tmp_path: Path) -> None:
    (replaced,) = (tmp_path / "data").glob("b.*")
    touch(replaced)
    backlog = find_backlog(done)
    (unit,) = backlog.to_compare
    origin = backlog.committed["cleaned"][unit.shard].origin
    stamped = replace(origin, file_identity=backlog.shards[unit.shard].file_identity)
    restamp_verdicts(backlog.sets["cleaned"], unit.shard, 0, stamped)
    assert find_backlog(done).units == []


def test_more_rewrites_of_a_replaced_file_are_drawn_without_a_comparison(done: Experiment, tmp_path: Path) -> None:
    (replaced,) = (tmp_path / "data").glob("b.*")
    touch(replaced)
    assert units_by_kind(find_backlog(more(done, 2))).keys() == {"draw"}


def test_a_new_file_is_drawn_and_the_rewrites_of_a_removed_one_stay(done: Experiment, tmp_path: Path) -> None:
    (removed,) = (tmp_path / "data").glob("a.*")
    removed.unlink()
    added = write_table(tmp_path / "data" / f"d{removed.suffix}")
    backlog = find_backlog(done)
    assert units_by_kind(backlog) == {"draw": [WorkUnit("cleaned", added.name, 0)]}
    assert removed.name not in backlog.committed["cleaned"]
    assert backlog.sets["cleaned"].accepted(removed.name) is not None


def test_a_retry_draws_only_in_shards_with_the_reason(experiment: Experiment) -> None:
    a, b, c = names(experiment)
    do(find_backlog(experiment), {"a-0": "engine_died", "b-1": "too_short", "c-1": "looping", "c-2": "too_short"})

    def units(retry: tuple[str, ...], *shards: str) -> dict[str, list[WorkUnit]]:
        return {"draw": [WorkUnit("cleaned", shard, 1, previous=0, retry=retry) for shard in shards]}

    assert find_backlog(experiment).units == []
    assert units_by_kind(find_backlog(experiment, ["engine_died"])) == units(("engine_died",), a)
    assert units_by_kind(find_backlog(experiment, ["too_short"])) == units(("too_short",), b, c)
    assert units_by_kind(find_backlog(experiment, {"looping", "engine_died"})) == units(
        ("engine_died", "looping"), a, c
    )
    assert find_backlog(experiment, ["refusal"]).units == []


def test_a_refused_draw_with_an_accepted_replacement_is_not_retried(experiment: Experiment) -> None:
    backlog = find_backlog(experiment)
    do(backlog)
    unit = backlog.to_draw[0]
    drawn = [Draw("a-0", "caption 0", "x", "too_short"), Draw("a-0", "caption 0", "a text", attempt=1)]
    write_draws(backlog.sets["cleaned"], unit.shard, 0, table_of(drawn), origin_of(backlog, unit))
    commit_verdicts(
        backlog.sets["cleaned"], unit.shard, 0, table_of(drawn), reasons_of(drawn), origin_of(backlog, unit)
    )
    assert find_backlog(experiment).committed["cleaned"][unit.shard].statistics.rejected == {"too_short": 1}
    assert find_backlog(experiment, ["too_short"]).units == []


def test_ranges_of_a_file_are_shards_of_their_own(experiment: Experiment) -> None:
    cut = with_overrides(experiment, {"data.max_rows_per_shard": 2})
    assert len(names(cut)) == 6
    last = names(cut)[-1]
    do(find_backlog(cut), {"c-2": "too_short"})
    assert find_backlog(cut).units == []
    assert units_by_kind(find_backlog(cut, ["too_short"])) == {
        "draw": [WorkUnit("cleaned", last, 1, previous=0, retry=("too_short",))]
    }


def test_a_directory_of_another_recipe_is_refused(done: Experiment) -> None:
    with pytest.raises(UserError, match=r"rewrite\.output: .*another rewrite set \(heads, seed differ\)"):
        find_backlog(with_overrides(done, {"seed": 1, "rewrite.heads": 8}))


def test_two_sets_of_one_name_are_refused(experiment: Experiment, tmp_path: Path) -> None:
    pairs: list[dict[str, Any]] = [{"source": f"source {n}", "target": f"target {n}"} for n in range(3)]
    storage.write_json(str(tmp_path / "other.yaml"), {"name": "cleaned", "pairs": pairs})
    twice = with_overrides(experiment, {"rewrite.prompt_sets": ["cleaned", str(tmp_path / "other.yaml")]})
    with pytest.raises(UserError, match=r"rewrite\.prompt_sets: two sets have the same name"):
        find_backlog(twice)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rewrite.prompt_sets": ["nosuch"]}, r"rewrite\.prompt_sets: 'nosuch'"),
        ({"rewrite.model": "/nosuch"}, r"rewrite\.model: '/nosuch'"),
        ({"rewrite.budget.money": 1.0}, r"rewrite\.budget\.money needs rewrite\.price"),
        ({"data.path": "nosuch"}, r"data\.path: 'nosuch' does not exist"),
        (
            {"rewrite.gate.picture": {"model": "ViT-B-32", "pretrained": "openai"}, "data.image_column": None},
            r"^rewrite\.gate\.picture: needs pictures, and data\.image_column is not set; set it, or turn the gate off",
        ),
    ],
)
def test_unusable_settings_are_refused_before_a_file_is_written(
    experiment: Experiment, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        find_backlog(with_overrides(experiment, change))
    assert not (tmp_path / "out").exists()


def test_a_model_without_a_tokeniser_is_refused_before_engines_start(experiment: Experiment, tmp_path: Path) -> None:
    text = {"context_length": 16, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}
    vision = {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8}
    model = {"embed_dim": 8, "vision_cfg": vision, "text_cfg": {**text, "hf_tokenizer_name": str(tmp_path / "none")}}
    storage.write_json(str(tmp_path / "model.json"), model)
    backlog = find_backlog(with_overrides(experiment, {"model.name": str(tmp_path / "model.json")}))
    with pytest.raises(UserError, match=rf"^model\.name: no tokeniser for '{tmp_path}/model\.json': \S"):
        check_prompts(backlog)
