"""SugarCrepe and SugarCrepe++ are read in their published layouts and measured by their definitions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from laclip_ray.errors import UserError
from laclip_ray.evaluation.wording.sugar_crepe import Example, read_examples, sugar_crepe_metrics
from tests.cases import case

RECORD = {"filename": "1.jpg", "caption": "a cat on a mat", "negative_caption": "a mat on a cat"}
PLUS = {"id": 0, **RECORD, "caption2": "on a mat there is a cat"}


def write(directory: Path, **files: Any) -> str:
    for kind, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (directory / f"{kind}.json").write_text(text)
    return str(directory)


def test_sugar_crepe_is_an_object_of_records(tmp_path: Path) -> None:
    where = write(tmp_path, swap_obj={"0": RECORD, "1": {**RECORD, "filename": "2.jpg"}}, add_att={"0": RECORD})
    examples = read_examples(where, "x")
    assert [(example.kind, example.image) for example in examples] == [
        ("add_att", "1.jpg"), ("swap_obj", "1.jpg"), ("swap_obj", "2.jpg"),
    ]  # fmt: skip
    assert examples[0] == Example("add_att", "1.jpg", ("a cat on a mat",), "a mat on a cat")


def test_sugar_crepe_plus_plus_is_a_list_of_records_with_a_second_caption(tmp_path: Path) -> None:
    (example,) = read_examples(write(tmp_path, swap_obj=[PLUS]), "x")
    assert example.captions == ("a cat on a mat", "on a mat there is a cat")


def test_one_file_can_be_read_alone(tmp_path: Path) -> None:
    write(tmp_path, swap_obj=[PLUS], other="{")
    assert len(read_examples(str(tmp_path / "swap_obj.json"), "x")) == 1


def test_files_in_directories_below_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "unrefined").mkdir()
    write(tmp_path / "unrefined", swap_obj=[PLUS])
    write(tmp_path, swap_obj=[PLUS])
    assert len(read_examples(str(tmp_path), "x")) == 1


@case("Evaluation", "a SugarCrepe directory without annotation files", "it is refused; the message names it", 2)
@pytest.mark.parametrize("name", ["", "none", "none.json"])
def test_missing_files_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        UserError, match=r"^evaluate\.x: .* has no annotation file \(KIND\.json\); give a data directory"
    ):
        read_examples(str(tmp_path / name), "evaluate.x")


@case("Evaluation", "a damaged SugarCrepe file, or one of another layout", "one sentence names file and record", 2)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "holds no records"),
        ("{}", "holds no records"),
        ("null", "holds no records"),
        ("7", "holds no records"),
        (["a cat"], "record 0 is no object"),
        ({"0": RECORD, "1": {"filename": "1.jpg", "caption": "a"}}, "record 1 has no text 'negative_caption'"),
        ([{**RECORD, "caption": " "}], "record 0 has no text 'caption'"),
        ([{**RECORD, "filename": 7}], "record 0 has no text 'filename'"),
        ([{**PLUS, "caption2": None}], "record 0 has no text 'caption2'"),
        ([{**RECORD, "filename": "/etc/passwd"}], "leaves the directory of the images"),
        ([{**RECORD, "filename": "../1.jpg"}], "leaves the directory of the images"),
        ([RECORD, PLUS], "mixes files of SugarCrepe"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_examples(write(tmp_path, swap_obj=content), "evaluate.x")
    assert str(caught.value).startswith("evaluate.x: ")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "swap_obj.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(UserError, match="is not JSON"):
        read_examples(str(tmp_path), "x")


# --- the metric

IMAGES = torch.eye(2)
TEXTS = torch.nn.functional.normalize(torch.tensor([[1.0, 0.1], [1.0, 0.6], [0.1, 1.0], [0.6, 1.0], [1.0, 0.0]]), dim=1)


def test_an_image_must_be_closer_to_its_caption() -> None:
    examples = [Example("swap_obj", "0", ("a",), "b"), Example("swap_obj", "0", ("b",), "a"),
                Example("add_att", "1", ("c",), "d"), Example("add_att", "1", ("c",), "c")]  # fmt: skip
    measured = sugar_crepe_metrics(
        examples, IMAGES, torch.tensor([0, 0, 1, 1]), TEXTS, torch.tensor([[0], [1], [2], [2]]),
        torch.tensor([1, 0, 3, 2]),
    )  # fmt: skip
    assert measured.metrics == {
        "add_att": 0.5,  # the second is a tie
        "swap_obj": 0.5,
        "mean": 0.5,
        "examples": {"add_att": 2, "swap_obj": 2},
        "images": 2,
    }
    np.testing.assert_array_equal(measured.per_image["swap_obj"].values, [0.5, np.nan])
    weights = measured.per_image["swap_obj"].weights
    assert weights is not None
    assert weights.tolist() == [2, 0]


def brute_force(images: torch.Tensor, texts: torch.Tensor, rows: list[list[int]]) -> dict[str, float]:
    """SugarCrepe++'s accuracies of examples (image, caption, caption2, negative)."""
    to_image, text_only = [], []
    for image, first, second, wrong in rows:
        similar = (images[image] @ texts.T).tolist()
        to_image.append(similar[first] > similar[wrong] and similar[second] > similar[wrong])
        among = (texts @ texts.T).tolist()
        text_only.append(among[first][second] > max(among[first][wrong], among[second][wrong]))
    return {"_image_to_text": float(np.mean(to_image)), "_text_only": float(np.mean(text_only))}


def test_sugar_crepe_plus_plus_needs_both_captions() -> None:
    draws = torch.Generator().manual_seed(0)
    images = torch.nn.functional.normalize(torch.randn(20, 4, generator=draws), dim=1)
    texts = torch.nn.functional.normalize(torch.randn(90, 4, generator=draws), dim=1)
    rows = [[number % 20, 3 * number, 3 * number + 1, 3 * number + 2] for number in range(30)]
    kinds = ["swap_obj" if number < 12 else "replace_rel" for number in range(30)]
    table = torch.tensor(rows)
    examples = [Example(kind, "", ("a", "b"), "c") for kind in kinds]
    found = sugar_crepe_metrics(examples, images, table[:, 0], texts, table[:, 1:3], table[:, 3]).metrics
    for kind, part in (("swap_obj", rows[:12]), ("replace_rel", rows[12:])):
        for task, expected in brute_force(images, texts, part).items():
            assert found[kind + task] == pytest.approx(expected)
    mean = (found["swap_obj_text_only"] + found["replace_rel_text_only"]) / 2
    assert found["mean_text_only"] == pytest.approx(mean)
