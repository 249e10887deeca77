"""Crops are pure and in range; decoding gives what Pillow's full decode gives, or an `ImageError`."""

import io
import math
import random
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from laclip_ray.data.image_formats import IMAGE_TOO_LARGE, ImageError, ImageLimits
from laclip_ray.data.images import ImageSpec, decode_and_crop, random_crop_box
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


def test_a_very_wide_or_tall_image_gets_a_central_crop() -> None:
    for size in ((100, 3), (3, 100)):
        left, top, right, bottom = random_crop_box(*size, (1.0, 1.0), 0, 0, "a")
        assert (right - left) / (bottom - top) == pytest.approx(4 / 3 if size[0] > size[1] else 3 / 4, rel=0.2)


def test_crops_differ_by_epoch_seed_and_id() -> None:
    keys = [(0, 0, "a"), (1, 0, "a"), (0, 1, "a"), (0, 0, "b")]
    assert len({random_crop_box(500, 400, (0.2, 0.9), *key) for key in keys}) == 4


def test_areas_and_positions_are_spread_over_their_ranges() -> None:
    boxes = [random_crop_box(600, 600, (0.1, 0.5), 0, 0, str(number)) for number in range(2_000)]
    areas = [(right - left) * (bottom - top) / 360_000 for left, top, right, bottom in boxes]
    assert sum(areas) / len(areas) == pytest.approx(0.3, abs=0.01)
    centres = [(left + right) / 2 for left, _, right, _ in boxes]
    assert sum(centres) / len(centres) == pytest.approx(300, abs=5)
    ratios = [math.log((right - left) / (bottom - top)) for left, top, right, bottom in boxes]
    assert sum(ratios) / len(ratios) == pytest.approx(0, abs=0.02)


def pillow_crop(content: bytes, spec: ImageSpec, scale: tuple[float, float], sample_id: str) -> np.ndarray:
    """The result of torchvision's RandomResizedCrop on a Pillow image, with our box."""
    with Image.open(io.BytesIO(content)) as image:
        box = random_crop_box(image.width, image.height, scale, 0, 0, sample_id)
        method = Image.Resampling[spec.interpolation.upper()]
        return np.asarray(image.convert("RGB").crop(box).resize((spec.size_px, spec.size_px), method))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
@pytest.mark.parametrize(("interpolation", "levels"), [("bilinear", 1), ("bicubic", 3)])
@pytest.mark.parametrize("size_px", [12, 16, 64])
def test_an_image_decodes_to_the_crop_at_the_models_size(
    kind: str, interpolation: str, levels: int, size_px: int
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    spec = replace(SMALL, size_px=size_px, interpolation=interpolation)
    smooth = picture(kind, 30, 20)
    for content in (smooth, encode(Image.fromarray(noise), kind)):
        for sample_id in "abcd":
            pixels = decode_and_crop(content, spec, (0.2, 0.8), 0, 0, sample_id)
            assert pixels.dtype == np.uint8
            assert pixels.shape == (size_px, size_px, 3)
            expected = pillow_crop(content, spec, (0.2, 0.8), sample_id)
            if content is smooth:
                np.testing.assert_allclose(pixels.astype(int), expected, atol=levels)
            else:  # on noise the cubic filter leaves 0 to 255 between its passes, and libraries clip differently
                assert np.abs(pixels.astype(int) - expected).mean() < levels / 2


@given(width=st.integers(40, 500), height=st.integers(40, 500), scale=scales, sample_id=st.text(max_size=3))
def test_a_jpeg_decoded_small_is_close_to_one_decoded_whole(
    width: int, height: int, scale: tuple[float, float], sample_id: str
) -> None:
    content = encode(Image.fromarray(smooth_pixels(width, height)), "JPEG", quality=95)
    small = decode_and_crop(content, SMALL, scale, 0, 0, sample_id).astype(float)
    whole = pillow_crop(content, SMALL, scale, sample_id).astype(float)
    assert np.abs(small - whole).mean() < 3.0


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@given(
    orientation=st.integers(1, 8),
    width=st.integers(20, 200),
    height=st.integers(20, 200),
    scale=scales,
    sample_id=st.text(max_size=3),
)
def test_a_crop_of_a_turned_image_is_the_crop_of_the_upright_one(
    kind: str, orientation: int, width: int, height: int, scale: tuple[float, float], sample_id: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode(Image.fromarray(smooth_pixels(width, height)), kind, exif=exif, quality=95)
    with Image.open(io.BytesIO(content)) as image:
        upright = ImageOps.exif_transpose(image)
    box = random_crop_box(upright.width, upright.height, scale, 0, 0, sample_id)
    expected = np.asarray(upright.crop(box).resize((16, 16), Image.Resampling.BILINEAR)).astype(float)
    pixels = decode_and_crop(content, SMALL, scale, 0, 0, sample_id).astype(float)
    assert np.abs(pixels - expected).mean() < 3.0
    stored = decode_and_crop(content, SMALL, scale, 0, 0, sample_id, exif=False).astype(float)
    assert np.abs(stored - pillow_crop(content, SMALL, scale, sample_id)).mean() < 3.0


@pytest.mark.parametrize(("area", "side"), [(0.9, 50), (0.05, 100), (0.01, 200), (0.002, 400)])
def test_a_large_jpeg_is_decoded_at_a_smaller_size_that_holds_the_crop(
    area: float, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[tuple[int, ...]] = []
    decode = simplejpeg.decode_jpeg

    def record(*arguments: Any, **options: Any) -> np.ndarray:
        pixels: np.ndarray = decode(*arguments, **options)
        sizes.append(pixels.shape)
        return pixels

    monkeypatch.setattr(simplejpeg, "decode_jpeg", record)
    decode_and_crop(picture("JPEG", 400, 400), SMALL, (area, area), 0, 0, "a")
    assert sizes == [(side, side, 3)]


def test_a_jpeg_with_bytes_between_its_segments_is_read_as_pillow_reads_it() -> None:
    content = picture("JPEG", 40, 30)
    offset = content.index(b"\xff\xdb")  # quantisation tables
    odd = content[:offset] + b"\x00\x00\x00" + content[offset:]
    with pytest.raises(ValueError, match="extraneous"):
        simplejpeg.decode_jpeg(odd)
    pixels = decode_and_crop(odd, SMALL, (0.5, 1.0), 0, 0, "a")
    np.testing.assert_allclose(pixels.astype(int), pillow_crop(content, SMALL, (0.5, 1.0), "a"), atol=1)


def test_pillow_decodes_a_jpeg_that_libjpeg_turbo_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    def header(_: bytes) -> None:
        raise KeyError(6)  # raised by simplejpeg 1.9 for 4:4:1 subsampling

    monkeypatch.setattr(simplejpeg, "decode_jpeg_header", header)
    content = picture("JPEG", 40, 30)
    pixels = decode_and_crop(content, SMALL, (0.5, 1.0), 0, 0, "a")
    np.testing.assert_allclose(pixels.astype(int), pillow_crop(content, SMALL, (0.5, 1.0), "a"), atol=1)


@given(side=st.integers(1, 60), shrink=st.sampled_from([1, 2, 4, 8]), sample_id=st.text(max_size=2))
def test_a_jpeg_is_not_shrunk_below_the_models_size(side: int, shrink: int, sample_id: str) -> None:
    full = 2 * side * shrink
    sizes: list[tuple[int, ...]] = []
    decode = simplejpeg.decode_jpeg

    def record(*arguments: Any, **options: Any) -> np.ndarray:
        pixels: np.ndarray = decode(*arguments, **options)
        sizes.append(pixels.shape)
        return pixels

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simplejpeg, "decode_jpeg", record)
        decode_and_crop(picture("JPEG", full, full), replace(SMALL, size_px=side), (0.25, 0.3), 0, 0, sample_id)
    box = random_crop_box(full, full, (0.25, 0.3), 0, 0, sample_id)
    smallest = min(box[2] - box[0], box[3] - box[1])
    if smallest >= side:
        assert smallest * sizes[0][0] / full >= side


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "1", "CMYK"])
def test_images_of_every_mode_become_three_channels(mode: str) -> None:
    image = Image.fromarray(smooth_pixels(24, 20)).convert(mode)
    content = encode(image, "JPEG" if mode == "CMYK" else "PNG")
    pixels = decode_and_crop(content, SMALL, (1.0, 1.0), 0, 0, "a")
    assert pixels.shape == (16, 16, 3)
    if mode == "CMYK":
        np.testing.assert_allclose(pixels.astype(int), pillow_crop(content, SMALL, (1.0, 1.0), "a"), atol=2)
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
def test_other_bytes_are_an_error(content: bytes) -> None:
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


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_an_image_above_a_limit_is_an_error(kind: str) -> None:
    content = picture(kind, 24, 20)
    for limits, is_refused in (
        (ImageLimits(len(content), 480), False),
        (ImageLimits(len(content), 479), True),
        (ImageLimits(len(content) - 1, 480), True),
    ):
        with pytest.raises(ImageError, match=IMAGE_TOO_LARGE) if is_refused else nullcontext():
            decode_and_crop(content, SMALL, (1.0, 1.0), 0, 0, "a", limits)
