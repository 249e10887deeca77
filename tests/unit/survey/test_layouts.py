"""`laclip init` on every layout: its config parses, passes `--dry-run`, and reads each picture with its caption."""

from pathlib import Path

import pytest

from laclip_ray.cli import main
from laclip_ray.config import Experiment, load_experiment
from laclip_ray.data.shards import list_shards, read_samples
from laclip_ray.survey.looking import look
from laclip_ray.survey.starting import start
from tests import layouts
from tests.layouts import Layout

ALL = (*layouts.WITH_PICTURES, layouts.captions_alone)


def written(layout: Layout, directory: Path) -> str:
    return layout(directory / layout.__name__)


@pytest.fixture(params=ALL, ids=lambda layout: layout.__name__)
def layout(request: pytest.FixtureRequest) -> Layout:
    chosen: Layout = request.param
    return chosen


@pytest.fixture
def experiment(layout: Layout, tmp_path: Path) -> Experiment:
    start(written(layout, tmp_path), str(tmp_path / "mine.yaml"), overwrite=False)
    return load_experiment(str(tmp_path / "mine.yaml"))


def test_twelve_layouts_have_pictures() -> None:
    assert len(layouts.WITH_PICTURES) == 12


def test_the_config_names_what_the_layout_has_and_no_more(
    layout: Layout, experiment: Experiment, tmp_path: Path
) -> None:
    expected = dict(layouts.EXPECTED[layout])
    if "image_root" in expected:
        expected["image_root"] = str(tmp_path / layout.__name__ / expected["image_root"])
    changed = experiment.data.model_dump(exclude_defaults=True, exclude={"path", "held_out"})
    assert changed == expected


def test_the_config_reads_each_picture_with_its_caption(layout: Layout, experiment: Experiment) -> None:
    with_images = layout not in layouts.ON_HOSTS and layout is not layouts.captions_alone
    samples = [
        sample for shard in list_shards(experiment.data) for sample in read_samples(shard, experiment.data, with_images)
    ]
    assert {sample.caption for sample in samples} == {*layouts.CAPTIONS}
    assert not [problem for sample in samples for problem in sample.problems]
    if with_images:
        number_of = {layouts.picture(number): number for number in range(layouts.PAIRS)}
        shown = {number_of[sample.image]: sample.caption for sample in samples if sample.image}
        assert shown == dict(enumerate(layouts.CAPTIONS))


def test_the_config_passes_a_dry_run(
    layout: Layout, experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["train", str(tmp_path / "mine.yaml"), "--dry-run"])
    (tmp_path / "printed.yaml").write_text(capsys.readouterr().out)
    assert load_experiment(str(tmp_path / "printed.yaml")) == experiment


def test_the_number_of_samples_is_exact(layout: Layout, tmp_path: Path) -> None:
    facts = look(written(layout, tmp_path), str(tmp_path / "pairs.jsonl"))
    assert (facts.rows.count, facts.rows.is_exact) == (layouts.PAIRS, True)
    assert facts.sampled.captions.captions == layouts.PAIRS


def test_only_pictures_are_evaluated_and_trained_on(layout: Layout, experiment: Experiment) -> None:
    has_pictures = layout is not layouts.captions_alone
    assert bool(experiment.evaluate.retrieval) == (experiment.data.held_out > 0) == has_pictures
