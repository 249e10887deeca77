"""Crops are pure and in range; decoding gives what Pillow's full decode gives, or an `ImageError`."""

import io
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from laclip_ray.data.images import ImageError, ImageSpec, decode_and_crop, random_crop_box
from tests.unit.conftest import SMALL, encode, picture, smooth_pixels

sizes = st.integers(1, 2_000)
scales = st.tuples(st.floats(0.05, 1.0), st.floats(0.05, 1.0)).map(sorted).map(lambda pair: (pair[0], pair[1]))


@given(width=sizes, height=sizes, scale=scales, seed=st.integers(0, 9), epoch=st.integers(0, 9), sample_id=st.text())
def test_a_crop_lies_in_its_image_and_is_a_function_of_its_arguments(
    width: int, height: int, scale: tuple[float, float], seed: int, epoch: int, sample_id: str
) -> None:
    box = random_crop_box(width, height, scale, seed, epoch, sample_id)
    left, top, right, bottom = box
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert random_crop_box(width, height, scale, seed, epoch, sample_id) == box


@given(width=st.integers(300, 800), ratio=st.floats(0.8, 1.25), scale=scales, sample_id=st.text())
def test_area_and_ratio_of_a_crop_are_in_range(
    width: int, ratio: float, scale: tuple[float, float], sample_id: str
) -> None:
    height = round(width * ratio)
    left, top, right, bottom = random_crop_box(width, height, (scale[0] * 0.5, scale[1] * 0.5), 0, 0, sample_id)
    # Up to half the area always fits; sides are rounded to pixels.
    area = (right - left) * (bottom - top) / (width * height)
    rounding = (right - left + bottom - top) / (width * height)
    assert scale[0] * 0.5 - rounding <= area <= scale[1] * 0.5 + rounding
    assert 3 / 4 * 0.97 <= (right - left) / (bottom - top) <= 4 / 3 * 1.03


def test_the_whole_image_is_the_crop_where_only_it_is_left() -> None:
    for size in ((100, 3), (3, 100)):
        left, top, right, bottom = random_crop_box(*size, (1.0, 1.0), 0, 0, "a")
        assert (right - left) / (bottom - top) == pytest.approx(4 / 3 if size[0] > size[1] else 3 / 4, rel=0.2)


def test_crops_differ_by_epoch_seed_and_id() -> None:
    keys = [(0, 0, "a"), (1, 0, "a"), (0, 1, "a"), (0, 0, "b")]
    assert len({random_crop_box(500, 400, (0.2, 0.9), *key) for key in keys}) == 4


def test_areas_and_places_are_spread_over_their_ranges() -> None:
    boxes = [random_crop_box(600, 600, (0.1, 0.5), 0, 0, str(number)) for number in range(2_000)]
    areas = [(right - left) * (bottom - top) / 360_000 for left, top, right, bottom in boxes]
    assert sum(areas) / len(areas) == pytest.approx(0.3, abs=0.01)
    centres = [(left + right) / 2 for left, _, right, _ in boxes]
    assert sum(centres) / len(centres) == pytest.approx(300, abs=5)
    ratios = [math.log((right - left) / (bottom - top)) for left, top, right, bottom in boxes]
    assert sum(ratios) / len(ratios) == pytest.approx(0, abs=0.02)


def full_decode(content: bytes, spec: ImageSpec, scale: tuple[float, float], sample_id: str) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        box = random_crop_box(image.width, image.height, scale, 0, 0, sample_id)
        size = (spec.size_px, spec.size_px)
        return np.asarray(image.convert("RGB").resize(size, Image.Resampling.BILINEAR, box))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_an_image_decodes_to_the_crop_at_the_models_size(kind: str) -> None:
    content = picture(kind, 30, 20)
    pixels = decode_and_crop(content, SMALL, (0.5, 1.0), 0, 0, "a")
    assert pixels.dtype == np.uint8
    assert pixels.shape == (16, 16, 3)
    np.testing.assert_array_equal(pixels, full_decode(content, SMALL, (0.5, 1.0), "a"))


@settings(max_examples=40)
@given(width=st.integers(40, 500), height=st.integers(40, 500), scale=scales, sample_id=st.text(max_size=3))
def test_a_jpeg_decoded_small_is_close_to_one_decoded_whole(
    width: int, height: int, scale: tuple[float, float], sample_id: str
) -> None:
    content = encode(Image.fromarray(smooth_pixels(width, height)), "JPEG", quality=95)
    small = decode_and_crop(content, SMALL, scale, 0, 0, sample_id).astype(float)
    whole = full_decode(content, SMALL, scale, sample_id).astype(float)
    assert np.abs(small - whole).mean() < 3.0


def test_a_large_jpeg_is_decoded_at_a_smaller_size(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import JpegImagePlugin

    sizes_asked: list[tuple[int, int] | None] = []
    draft = JpegImagePlugin.JpegImageFile.draft

    def record(image: JpegImagePlugin.JpegImageFile, mode: str | None, size: tuple[int, int] | None) -> object:
        found = draft(image, mode, size)
        sizes_asked.append(image.size)
        return found

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "draft", record)
    decode_and_crop(picture("JPEG", 400, 400), SMALL, (0.9, 0.9), 0, 0, "a")
    assert sizes_asked == [(50, 50)]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "1", "CMYK"])
def test_images_of_every_mode_become_three_channels(mode: str) -> None:
    image = Image.fromarray(smooth_pixels(24, 20)).convert(mode)
    content = encode(image, "JPEG" if mode == "CMYK" else "PNG")
    pixels = decode_and_crop(content, SMALL, (1.0, 1.0), 0, 0, "a")
    assert pixels.shape == (16, 16, 3)
    if mode in ("L", "LA", "1"):
        assert (pixels == pixels[:, :, :1]).all()
    if mode == "RGBA":
        np.testing.assert_array_equal(pixels, decode_and_crop(picture(), SMALL, (1.0, 1.0), 0, 0, "a"))


def test_a_palette_with_transparency_keeps_its_colours() -> None:
    image = Image.new("P", (20, 20), 1)
    image.putpalette([0, 0, 0, 200, 30, 60])
    pixels = decode_and_crop(encode(image, "PNG", transparency=0), SMALL, (1.0, 1.0), 0, 0, "a")
    assert (pixels == [200, 30, 60]).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_a_cut_image_is_an_error(kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    content = encode(Image.fromarray(noise), kind)
    with pytest.raises(ImageError):
        decode_and_crop(content[: int(len(content) * share)], SMALL, (1.0, 1.0), 0, 0, "a")


@pytest.mark.parametrize("content", [b"", b"no image", b"<html></html>", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"])
def test_bytes_that_are_no_image_are_an_error(content: bytes) -> None:
    with pytest.raises(ImageError, match=r"."):
        decode_and_crop(content, SMALL, (1.0, 1.0), 0, 0, "a")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_image_gives_pixels_or_an_image_error(kind: str) -> None:
    whole, draws = picture(kind, 40, 30), random.Random(0)
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(draws.choice([1, 4, 30])):
            content[draws.randrange(len(content))] = draws.randrange(256)
        try:
            pixels = decode_and_crop(bytes(content), SMALL, (0.5, 1.0), 0, 0, "a")
        except ImageError:
            continue
        assert pixels.shape == (16, 16, 3)


def test_an_image_too_large_to_be_meant_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ImageError, match="too large"):
        decode_and_crop(picture(), SMALL, (1.0, 1.0), 0, 0, "a")
