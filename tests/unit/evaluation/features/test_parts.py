"""Parts are the same in every run, hold each picture once, and decode only what is missing."""

from collections.abc import Collection

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from laclip_ray.data.image_formats import IMAGE_UNREADABLE, ImageLimits
from laclip_ray.data.pictures import open_rgb
from laclip_ray.data.records import IMAGE_MISSING
from laclip_ray.evaluation.features import parts
from laclip_ray.evaluation.features.parts import Part, read_parts
from laclip_ray.evaluation.features.rows import Row
from laclip_ray.models.pixel_transform import split_transform
from tests.unit.conftest import picture
from tests.unit.evaluation.features.sources import ListedSource


def width_of(image: Image.Image) -> torch.Tensor:
    return torch.full((3, 1, 1), float(image.width))


WIDTH = split_transform(width_of)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_ROWS", 3)


def rows(widths: list[int]) -> list[Row]:
    return [Row(f"r{number}", picture(width=10 + width), label=str(number)) for number, width in enumerate(widths)]


def parts_of(source: ListedSource, done: Collection[int] = ()) -> list[Part]:
    return list(read_parts(source, [WIDTH], done))


def widths_in(part: Part) -> list[float]:
    pixels = part.pixels.get(WIDTH.digest)
    return [] if pixels is None else pixels[:, 0, 0, 0].tolist()


@pytest.mark.parametrize(("count", "sizes"), [(0, [0]), (1, [1]), (3, [3]), (4, [3, 1]), (6, [3, 3])])
def test_a_shard_has_parts_of_equal_size_and_the_last_says_so(count: int, sizes: list[int]) -> None:
    found = parts_of(ListedSource(rows(list(range(count)))))
    assert [part.rows.num_rows for part in found] == sizes
    assert [part.number for part in found] == list(range(len(sizes)))
    assert [part.is_last for part in found] == [False] * (len(sizes) - 1) + [True]


@settings(max_examples=30, deadline=None)
@given(widths=st.lists(st.integers(0, 4), max_size=10), done=st.sets(st.integers(0, 3)))
def test_parts_that_are_done_change_no_other_part(widths: list[int], done: set[int]) -> None:
    source = ListedSource(rows(widths))
    everything = {part.number: part for part in parts_of(source)}
    left = parts_of(source, done)
    assert {part.number for part in left} == everything.keys() - done
    for part in left:
        assert part.rows.equals(everything[part.number].rows)
        assert widths_in(part) == widths_in(everything[part.number])


def test_a_picture_is_encoded_once_in_a_shard() -> None:
    first, second = parts_of(ListedSource(rows([5, 7, 5, 7, 9])))
    assert (widths_in(first), widths_in(second)) == ([15, 17], [19])
    assert (first.encoded_rows.tolist(), second.encoded_rows.tolist()) == ([0, 1], [1])
    pictures = first.rows.column("picture").to_pylist()
    assert pictures[0] == pictures[2] != pictures[1] == second.rows.column("picture").to_pylist()[0]


def test_rows_without_a_usable_image_keep_the_reason() -> None:
    source = ListedSource([Row("a", b"no image"), Row("b", None, IMAGE_MISSING), Row("c", b"no image")])
    (part,) = parts_of(source)
    assert part.rows.column("problem").to_pylist() == [IMAGE_UNREADABLE, IMAGE_MISSING, IMAGE_UNREADABLE]
    assert not len(part.encoded_rows)


def test_transforms_of_several_models_share_one_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []

    def counting(content: bytes, limits: ImageLimits, exif: bool) -> Image.Image:
        decoded.append(len(content))
        return open_rgb(content, limits, exif)

    monkeypatch.setattr(parts, "open_rgb", counting)

    def height_of(image: Image.Image) -> torch.Tensor:
        return torch.full((3, 1, 1), float(image.height))

    height = split_transform(height_of)
    (part,) = read_parts(ListedSource(rows([1, 2])), [WIDTH, height], ())
    assert len(decoded) == 2
    assert part.pixels.keys() == {WIDTH.digest, height.digest}
    assert all(isinstance(array, np.ndarray) and len(array) == 2 for array in part.pixels.values())


def test_an_error_of_the_storage_leaves_the_reader() -> None:
    with pytest.raises(PermissionError):
        parts_of(ListedSource(rows([1]), error=PermissionError("no")))
