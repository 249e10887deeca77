"""`laclip report` on runs in storage: every part, no part, running, damaged, several."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from laclip_ray.cli import main
from laclip_ray.config import Experiment, to_config, with_overrides
from laclip_ray.rewriting.storing.sets import SetSelection
from laclip_ray.rewriting.storing.store import RewriteSet
from laclip_ray.run_report.facts import RunFacts
from laclip_ray.run_report.page import report_page
from laclip_ray.run_report.reading import Target, read_run
from laclip_ray.run_report.rewriting_section import rewriting_sections
from laclip_ray.run_report.training_section import training_section
from laclip_ray.status.outputs import find_locations
from tests.unit.run_report.stored_runs import (
    GATE,
    HOSTILE,
    PLAIN,
    SETS,
    SHARD,
    experiment,
    line,
    whole_run,
    write_data,
    write_evaluation,
    write_rewrites,
    write_sweep,
    write_training,
)
from tests.unit.status.runs import leave_lease


def report(words: Sequence[str | Path], directory: Path) -> tuple[int, str]:
    """The exit code of `laclip report`, and the page."""
    page, code = directory / "page.html", 0
    page.unlink(missing_ok=True)
    try:
        main(["report", *map(str, words), "--page", str(page)])
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    return code, page.read_text() if page.exists() else ""


def titles(page: str) -> list[str]:
    """The sections."""
    return re.findall(r"<h2 id=[^>]*>([^<]*)</h2>", page)


def warnings(page: str) -> str:
    """What is at the top."""
    return page.partition('class="warnings"')[2].partition("</div>")[0]


def test_a_finished_run_has_every_part(tmp_path: Path) -> None:
    of = whole_run(tmp_path)
    code, page = report([of.output], tmp_path)
    assert code == 0
    expected = ("Overview", "Evaluation", "Wording", "Training", "Pictures and texts", "Rewriting", "Scores")
    assert titles(page) == [*expected, "Vocabulary", "Cost", "Lineage"]
    assert "zero-shot top-1, world 45.0 % (37.0 to 53.0)" in page.partition("</h1>")[0]
    assert page.count("data:image/jpeg;base64,") == len(PLAIN)
    assert "laclip rewrite CONFIG; laclip train CONFIG; laclip evaluate CONFIG" in page
    for text in ("too_short", "0.25 USD", "recipe f00d", "p shown", ">0.49<", "the model reads words"):
        assert text in page
    assert "retrieval, emoji: every image was skipped" in warnings(page)


def test_the_cost_of_training_is_the_time_of_its_images_for_each_worker(tmp_path: Path) -> None:
    train = {"epochs": 4, "batch_size": 100, "workers": 2}
    of = experiment(tmp_path / "run", write_data(tmp_path / "data", PLAIN), train=train)
    write_training(of, 40)
    _, page = report([of.output], tmp_path)
    seconds = sum(100 / line(step)["images_per_s"] for step in range(1, 41))
    cost = page.partition('<h2 id="cost">')[2].partition("</section>")[0]
    assert f">{2 * seconds:.0f} s<" in cost


def test_the_runs_below_an_output_of_rewrites_are_on_its_page_once(tmp_path: Path) -> None:
    of = experiment(tmp_path / "all", write_data(tmp_path / "data", PLAIN))
    write_rewrites(of.rewrite_output, PLAIN)
    for name in ("one", "two"):
        below = of.model_copy(update={"output": str(tmp_path / "all" / name)})
        write_training(below, 12)
    for runs in ([of.output], [of.output, f"{of.output}/one"]):
        code, page = report(runs, tmp_path)
        assert code == 0
        assert {*re.findall(r"<bdi>(one|two)</bdi></th>", page)} == {"one", "two"}
        assert page.count('<th scope="col"><bdi>one</bdi></th>') == page.count('<th scope="col"><bdi>two</bdi></th>')


def test_the_page_of_a_config_tells_what_ran_not_what_its_file_says_now(tmp_path: Path) -> None:
    of = whole_run(tmp_path)
    later = of.model_copy(update={"rewrite": of.rewrite.model_copy(update={"model": "another/thing"}), "seed": 77})
    (tmp_path / "later.yaml").write_text(to_config(later))
    _, page = report([tmp_path / "later.yaml"], tmp_path)
    assert "another/thing" not in page
    assert "seed: 77" not in page
    assert "<dd><bdi>model</bdi></dd>" in page


def test_one_job_is_named_by_its_own_command(tmp_path: Path) -> None:
    of = whole_run(tmp_path)
    (tmp_path / "run" / "run.json").write_text("{}")
    _, page = report([of.output], tmp_path)
    assert "laclip run CONFIG; laclip evaluate CONFIG" in page


def test_a_single_point_is_no_curve(tmp_path: Path) -> None:
    of = experiment(tmp_path / "run", write_data(tmp_path / "data", PLAIN))
    write_training(of, 1)
    _, page = report([of.output], tmp_path)
    assert "Training in numbers" in page
    assert "<svg" not in page


def test_rewrites_that_runs_name_in_another_order_are_shown_once(tmp_path: Path) -> None:
    of = whole_run(tmp_path)
    other = experiment(
        tmp_path / "other", tmp_path / "run-data", rewrite={"prompt_sets": [*SETS][::-1], "output": of.rewrite_output}
    )
    write_training(other, 12)
    _, page = report([of.output, other.output], tmp_path)
    assert titles(page).count("Rewriting") == 1


def test_a_config_names_a_run_in_several_places(tmp_path: Path) -> None:
    of = experiment(tmp_path / "run", tmp_path / "data", evaluate={"output": str(tmp_path / "elsewhere")})
    write_evaluation(of.evaluate_output)
    config = tmp_path / "config.yaml"
    config.write_text(to_config(of))
    code, page = report([config], tmp_path)
    assert code == 0
    assert titles(page) == ["Overview", "Evaluation", "Wording", "Lineage"]


def test_hostile_captions_are_harmless_text(tmp_path: Path) -> None:
    of = whole_run(tmp_path, HOSTILE)
    code, page = report([of.output], tmp_path)
    assert code == 0
    assert page.count("<script>") == 1
    assert page.count("<img ") == len(HOSTILE)
    assert not re.search("[\0\u202a-\u202e\u2066-\u2069]", page)


def facts(of: Experiment, captions: int = 48, seed: int = 0) -> RunFacts:
    """What a report reads, without the page."""
    return read_run(Target("run", find_locations(of.output)), captions, seed)


def test_equal_seeds_show_equal_captions_and_a_number_bounds_them(tmp_path: Path) -> None:
    of = whole_run(tmp_path, PLAIN * 5)
    one, two, other = (facts(of, 6, seed).rewriting for seed in (0, 0, 1))
    assert one is not None
    assert two is not None
    assert other is not None
    assert len(one.samples) == 6
    assert one.samples == two.samples != other.samples


def test_a_running_run_is_shown_as_such(tmp_path: Path) -> None:
    of = experiment(tmp_path / "run", write_data(tmp_path / "data", PLAIN))
    write_training(of, 12, is_finished=False)
    leave_lease(of.train_output)
    code, page = report([of.output], tmp_path)
    assert code == 0
    assert "training running: epochs 1.20 of 4" in page.partition("</h1>")[0]
    assert "Training is running" in warnings(page)


def test_a_sweep_shows_the_compared_metric_first_and_the_papers_p(tmp_path: Path) -> None:
    of = experiment(tmp_path / "run", tmp_path / "nowhere")
    write_sweep(of)
    code, page = report([of.output], tmp_path)
    assert code == 0
    assert page.index('class="plot wide"') < page.index('class="plot"')
    assert page.index("zero-shot top-1, world against") < page.index("zero-shot: mean per class, world against")
    assert "the paper's p = 2/3" in page
    assert "at p0.4" in page.partition("</h1>")[0]


def test_an_evaluation_alone_is_a_run(tmp_path: Path) -> None:
    write_evaluation(str(tmp_path / "evaluate"))
    code, page = report([tmp_path / "evaluate"], tmp_path)
    assert code == 0
    assert titles(page) == ["Overview", "Evaluation", "Wording", "Lineage"]


def test_several_runs_stand_side_by_side(tmp_path: Path) -> None:
    one = whole_run(tmp_path)
    other = experiment(tmp_path / "other", tmp_path / "run-data", text={"p": 0.0})
    write_training(other, 20)
    write_evaluation(other.evaluate_output, 0.31)
    code, page = report([one.output, other.output], tmp_path)
    assert code == 0
    assert "run and other" in page.partition("</h1>")[0]
    assert "The losses cannot be compared, because the runs show different texts" in page
    assert page.index("45.0 (37.0 to 53.0)") < page.index("31.0 (23.0 to 39.0)")


def test_runs_that_share_rewrites_show_them_once(tmp_path: Path) -> None:
    one = whole_run(tmp_path)
    changes = {"rewrite.output": one.rewrite_output, "output": str(tmp_path / "other")}
    other = with_overrides(one, changes)
    write_training(other, 20)
    runs = [read_run(Target(of.output, find_locations(of.output)), 48, 0) for of in (one, other)]
    for shown in (runs, runs[1:]):
        gallery = rewriting_sections(shown)[0].gallery
        assert gallery is not None
        assert len(gallery.cards) == len(PLAIN)


def test_an_output_that_does_not_exist_is_bad_input(tmp_path: Path) -> None:
    assert report([tmp_path / "nowhere"], tmp_path) == (2, "")


def _cut(path: str) -> None:
    file = Path(path)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _append(train_output: str, lines: Iterable[str]) -> None:
    with Path(train_output, "metrics.jsonl").open("a") as file:
        file.writelines(f"{each}\n" for each in lines)


def test_damaged_files_are_named_and_the_rest_is_read(tmp_path: Path) -> None:
    of = whole_run(tmp_path)
    cleaned = RewriteSet(f"{of.rewrite_output}/cleaned", GATE)
    damaged = [
        cleaned.draws_url(SHARD, 0),
        f"{of.rewrite_output}/cleaned/recipe.json",
        f"{of.evaluate_output}/results.json",
        f"{of.train_output}/summary.json",
    ]
    for path in damaged:
        _cut(path)
    _append(of.train_output, ['{"step": 4'])
    found = facts(of)
    problems = "\n".join(found.problems)
    for path in [*damaged, "metrics.jsonl"]:
        assert Path(path).name in problems
    assert found.training is not None
    assert len(found.training.lines) == 40
    assert found.rewriting is not None
    assert {rewrite.prompt_set for sample in found.rewriting.samples for rewrite in sample.rewrites} == {"crowd"}
    page = report_page([found], {}, "", "")
    assert len(page.warnings) >= len(damaged)


def test_damaged_verdicts_and_stages_are_named_and_left_out(tmp_path: Path) -> None:
    of = whole_run(tmp_path)
    verdicts = RewriteSet(f"{of.rewrite_output}/cleaned", GATE).verdicts_url(SHARD, 0)
    stage = write_sweep(of).stage("p0", 1, 4)
    _cut(verdicts)
    _cut(stage)
    found = facts(of)
    problems = "\n".join(found.problems)
    assert SHARD in problems
    assert Path(stage).name in problems
    assert found.rewriting is not None
    assert [each.statistics.captions for each in found.rewriting.sets] == [0, len(PLAIN)]
    assert found.sweep is not None
    assert len(found.sweep.stages) == 5


def test_lines_of_strange_types_do_not_stop_the_report(tmp_path: Path) -> None:
    of = whole_run(tmp_path)
    strange = [line(41, loss="none", fallbacks=3, images_per_s=None), {"step": "x"}, {"step": 42, "epoch": None}, []]
    _append(of.train_output, map(json.dumps, strange))
    section = training_section([facts(of)])
    assert section is not None
    assert len(section.plots) == 6


def test_metrics_of_epochs_are_drawn_beside_the_curves(tmp_path: Path) -> None:
    of = experiment(tmp_path / "run", tmp_path / "nowhere")
    paths = write_training(of, 20)
    lines = [json.dumps({"epoch": epoch, "zero-shot/world/top1": epoch / 10}) for epoch in (1, 2)]
    Path(paths.evaluations).write_text("\n".join(lines))
    section = training_section([facts(of)])
    assert section is not None
    assert "zero-shot top-1, world" in section.plots[-1].svg


def test_data_that_is_gone_leaves_captions_without_pictures(tmp_path: Path) -> None:
    of = whole_run(tmp_path)
    (tmp_path / "run-data" / SHARD).unlink()
    found = facts(of).rewriting
    assert found is not None
    assert [sample.image for sample in found.samples] == [None] * len(PLAIN)
    assert "The pictures are not shown" in found.notes[0]


def test_inspection_writes_the_gallery_alone(tmp_path: Path) -> None:
    of = whole_run(tmp_path)
    config, page = tmp_path / "config.yaml", tmp_path / "gallery.html"
    config.write_text(to_config(of))
    for name in SETS:  # the verdicts of the stored run are of a gate of their own
        verdicts = Path(f"{of.rewrite_output}/{name}/verdicts/{GATE}")
        verdicts.rename(verdicts.with_name(SetSelection.of(of).gate))
    main(["rewrites", "inspect", str(config), "--reason", "too_short", "--html", str(page)])
    text = page.read_text()
    assert titles(text) == ["Captions and rewrites"]
    assert text.count("refused: too_short") == len(PLAIN) // 3 + 1
    assert 'data-reason="accepted"' not in text
