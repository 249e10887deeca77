"""Reading data as others publish it. Skipped where it is absent: set LACLIP_TEST_DATA to its directory."""

import io
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import resized_crop

from laclip_ray.cli import main
from laclip_ray.config import DataConfig, LabelledConfig, load_experiment
from laclip_ray.data.images import ImageSpec, decode_and_crop, random_crop_box
from laclip_ray.data.shards import list_shards, read_samples
from laclip_ray.data.tokens import load_clip_tokenizer, tokenizer_spec
from laclip_ray.evaluation.overlap import files_in_training
from laclip_ray.evaluation.sets.labelled_set import LabelChecks, open_labelled_set, read_labelled
from tests import documentation
from tests.integration.procedures import REPOSITORY, real_data


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> Path:
    found = real_data()
    if found is None:
        pytest.skip("LACLIP_TEST_DATA is not set")
    monkeypatch.setenv("LACLIP_TEST_DATA", str(found))
    return found


def test_a_headerless_table_is_cut_into_ranges_that_hold_every_caption_once(data: Path) -> None:
    experiment = load_experiment(str(REPOSITORY / "configs/cc3m_validation.yaml"))
    shards = list_shards(experiment.data)
    assert [shard.row_count for shard in shards] == [10_000, 5_833]
    captions = [sample.caption for shard in shards for sample in read_samples(shard, experiment.data, False)]
    lines = (data / "cc3m-validation.tsv").read_text().splitlines()
    assert captions == [line.split("\t")[0] for line in lines]


def test_every_picture_of_a_webdataset_decodes(data: Path) -> None:
    config = DataConfig(path=str(data / "fluent-emoji"))
    spec = ImageSpec(64, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    ids: Counter[str] = Counter()
    for shard in list_shards(config):
        for sample in read_samples(shard, config, with_images=True):
            assert not sample.problems
            assert sample.image is not None
            assert decode_and_crop(sample.image, spec, (0.5, 1.0), 0, 0, sample.id).shape == (64, 64, 3)
            ids[sample.id] += 1
    assert (len(ids), ids.total()) == (2_979, 2_979)


@pytest.mark.parametrize(("interpolation", "levels"), [("bilinear", 1), ("bicubic", 3)])
def test_photographs_are_cropped_as_torchvision_crops_pillows(data: Path, interpolation: str, levels: int) -> None:
    config = DataConfig(path=str(data / "clothing-cc0" / "val"), caption_column="cls")
    spec = ImageSpec(100, interpolation, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    samples = read_samples(list_shards(config)[0], config, with_images=True)
    for sample in islice(samples, 100):
        assert sample.image is not None
        pixels = decode_and_crop(sample.image, spec, (0.5, 1.0), 0, 0, sample.id).astype(int)
        picture = Image.open(io.BytesIO(sample.image)).convert("RGB")
        left, top, right, bottom = random_crop_box(picture.width, picture.height, (0.5, 1.0), 0, 0, sample.id)
        method = InterpolationMode(interpolation)
        expected = resized_crop(picture, top, left, bottom - top, right - left, [100, 100], method)
        difference = np.abs(pixels - np.asarray(expected))
        assert np.quantile(difference, 0.999) <= levels
        assert difference.mean() < 0.3


def test_real_captions_have_open_clips_own_tokens(data: Path) -> None:
    ours, theirs = load_clip_tokenizer(tokenizer_spec("ViT-B-32")), open_clip.get_tokenizer("ViT-B-32")
    captions = [line.split("\t")[0] for line in (data / "cc3m-validation.tsv").read_text().splitlines()]
    assert torch.equal(ours(captions), theirs(captions))


def test_a_clip_benchmark_set_opens_with_its_classes_and_every_image(data: Path) -> None:
    config = LabelledConfig(name="clothing-cc0", path=str(data / "clothing-cc0"))
    labelled = open_labelled_set(config)
    checks = LabelChecks(labelled)
    images = [image for shard in labelled.splits["test"] for image in read_labelled(shard)]
    labels = Counter(checks.read(image.label) for image in images)
    checks.finish()
    assert len(labelled.class_names) == 10
    assert not any(image.problem for image in images)
    assert set(labels) == {(label,) for label in range(10)}


def test_the_example_on_real_pictures_is_measured_on_pictures_that_it_is_not_trained_on(data: Path) -> None:
    experiment = load_experiment(str(REPOSITORY / "configs/fluent_emoji.yaml"))
    (retrieval,) = experiment.evaluate.retrieval
    assert retrieval.data is not None
    held_out = {shard.url for shard in list_shards(retrieval.data)}
    assert not files_in_training(held_out, experiment.data)
    training = {shard.url for shard in list_shards(experiment.data)}
    assert {Path(url).name for url in held_out | training} == {f"0000{number}.tar" for number in range(6)}


def test_the_quick_start_shows_what_init_prints_and_writes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = [block.text for block in documentation.blocks(REPOSITORY / "docs" / "quickstart.md") if not block.is_shell]
    (tmp_path / "fluent-emoji").symlink_to(data / "fluent-emoji")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    main(["init", "fluent-emoji"])
    assert capsys.readouterr().out.rstrip() in shown
    written = Path("fluent-emoji.yaml").read_text().rstrip()
    assert written.replace(str(tmp_path), "/data").split() in [text.split() for text in shown]
