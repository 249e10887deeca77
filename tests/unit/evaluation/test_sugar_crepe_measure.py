"""Examples find their images by file name, and missing images are counted."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from laclip_ray.config import SugarCrepeConfig
from laclip_ray.data.image_formats import IMAGE_UNREADABLE
from laclip_ray.data.records import IMAGE_MISSING
from laclip_ray.errors import UserError
from laclip_ray.evaluation.sugar_crepe_measure import SugarCrepeMeasure
from tests.unit.conftest import picture
from tests.unit.evaluation.encoded import TestModel, encoding, read, read_texts

WIDTHS = {"a.png": 20, "b.png": 24, "c.png": 20}


class ByWidth(TestModel):
    """A picture of width 20 is like the text `20`, of width 24 like `24`."""

    @staticmethod
    def tokenize(texts: Any, context_length: int = 3) -> torch.Tensor:
        rows = [[int(text), 0, 0] if text else [0, 0, 0] for text in texts]
        return torch.tensor([[*row, 0][:context_length] for row in rows])

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.eye(30)[pixels.flatten(1)[:, 0].long()]

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.eye(30)[tokens[:, 0]]


def width_of(image: Image.Image) -> torch.Tensor:
    return torch.full((3, 1, 1), float(image.width))


def opened(tmp_path: Path, records: list[dict[str, str]], most_skipped: float = 1.0) -> SugarCrepeMeasure:
    (tmp_path / "images").mkdir(exist_ok=True)
    for name, width in WIDTHS.items():
        (tmp_path / "images" / name).write_bytes(picture(width=width))
    (tmp_path / "images" / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "swap.json").write_text(json.dumps(dict(enumerate(records))))
    config = SugarCrepeConfig(name="swap", path=str(tmp_path / "swap.json"), images=str(tmp_path / "images"))
    return SugarCrepeMeasure.open(config, most_skipped)


def example(image: str, caption: int, negative: int) -> dict[str, str]:
    return {"filename": image, "caption": str(caption), "negative_caption": str(negative)}


def measured(measure: SugarCrepeMeasure) -> Any:
    with encoding(ByWidth(), width_of, ByWidth.tokenize) as model:
        reader = read(model, measure.sources)
        (result,) = measure.measure(reader, read_texts(model, measure.first_texts()))
    return result


def test_examples_are_measured_on_their_images(tmp_path: Path) -> None:
    records = [example("a.png", 20, 24), example("b.png", 24, 20), example("c.png", 24, 20), example("a.png", 20, 25)]
    result = measured(opened(tmp_path, records))
    assert result.metrics["swap"] == result.metrics["mean"] == 0.75
    assert (result.metrics["images"], result.coverage.used) == (3, 4)


def test_examples_without_a_usable_image_are_counted(tmp_path: Path) -> None:
    records = [example("a.png", 20, 24), example("b.png", 24, 20), example("broken.jpg", 24, 20)]
    result = measured(opened(tmp_path, [*records, example("gone.png", 20, 24)]))
    assert result.metrics["swap"] == 1.0
    assert dict(result.coverage.skipped.counts) == {IMAGE_UNREADABLE: 1, IMAGE_MISSING: 1}
    strict = measured(opened(tmp_path, records, most_skipped=0.1))
    assert "33.3% of the samples cannot be used" in strict.metrics["no_result"]


def test_images_that_are_not_there_are_refused(tmp_path: Path) -> None:
    (tmp_path / "swap.json").write_text(json.dumps({"0": example("a.png", 1, 2)}))
    config = SugarCrepeConfig(name="swap", path=str(tmp_path / "swap.json"), images=str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"evaluate\.sugar_crepe\[swap\]\.images.*does not exist"):
        SugarCrepeMeasure.open(config, 0.0)
