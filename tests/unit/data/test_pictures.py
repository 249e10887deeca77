"""Pictures of every kind become 8-bit RGB as a viewer shows them; hostile ones are refused by reason."""

import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from laclip_ray.data import pictures
from laclip_ray.data.image_formats import DEFAULT_LIMITS, IMAGE_TOO_LARGE, ImageError, ImageLimits
from laclip_ray.data.images import decode_and_crop
from laclip_ray.data.orientation import TRANSPOSITIONS
from laclip_ray.data.pictures import open_rgb, rgb_crop
from tests.cases import case
from tests.unit.conftest import SMALL, encode, smooth_pixels
from tests.unit.data.hostile import hostile_files

SECTION = "Reading data"
RAMP = np.linspace(0, 1, 32 * 16).reshape(16, 32)
GREY8 = (RAMP * 255).astype(np.uint8)


def rgb(content: bytes, limits: ImageLimits = DEFAULT_LIMITS) -> np.ndarray:
    """The pixels of the whole picture; the crop of the whole picture has the same."""
    image = open_rgb(content, limits, exif=True)
    assert image.mode == "RGB"
    pixels = np.asarray(image)
    np.testing.assert_array_equal(pixels, rgb_crop(content, limits, True, lambda width, height: (0, 0, width, height)))
    return pixels.astype(int)


def is_grey_ramp(pixels: np.ndarray, tolerance: int = 1) -> bool:
    return bool((np.abs(pixels - GREY8[:, :, None].astype(int)) <= tolerance).all())


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ((RAMP * 65_535).astype(np.uint16), "PNG"),
        ((RAMP * 65_535).astype(np.uint16), "TIFF"),
        ((RAMP * 65_535).astype(np.int32), "PPM"),
        ((RAMP * 65_535).astype(np.int32), "TIFF"),
    ],
    ids=["png", "tiff", "pgm", "tiff32"],
)
@case(SECTION, "a picture of 16-bit greys", "its high bytes are used; it is not white")
def test_a_picture_of_16_bit_greys_keeps_its_high_bytes(values: np.ndarray, kind: str) -> None:
    pixels = rgb(encode(Image.fromarray(values), kind))
    np.testing.assert_array_equal(pixels[:, :, 0], values >> 8)
    assert is_grey_ramp(pixels)


@pytest.mark.parametrize("highest", [1, 255])
def test_a_dark_picture_of_16_bit_greys_stays_dark(highest: int) -> None:
    for kind, values in (("PNG", RAMP.astype(np.uint16)), ("PPM", RAMP.astype(np.int32))):
        assert rgb(encode(Image.fromarray(values * highest), kind)).max() == 0


@pytest.mark.parametrize(
    ("lowest", "highest"), [(0.0, 1.0), (0.0, 255.0), (0.0, 65_535.0), (-1.0, 1.0), (-1e30, 1e30), (0.0, 1e5)]
)
@case(SECTION, "a picture of floats", "scaled by its range (0 to 1, 255, 65,535, or its own); it is not black")
def test_a_picture_of_floats_is_scaled_by_its_range(lowest: float, highest: float) -> None:
    values = (lowest + RAMP * (highest - lowest)).astype(np.float32)
    assert is_grey_ramp(rgb(encode(Image.fromarray(values), "TIFF")))


def test_infinite_values_and_nan_do_not_change_the_range() -> None:
    values = RAMP.astype(np.float32)
    values[0, :3] = np.nan, np.inf, -np.inf
    pixels = rgb(encode(Image.fromarray(values), "TIFF"))
    assert pixels[0, :3, 0].tolist() == [0, 255, 0]
    assert is_grey_ramp(np.where(np.isfinite(values)[:, :, None], pixels, GREY8[:, :, None]))
    for strange in (np.nan, np.inf, -7.0):
        constant = rgb(encode(Image.fromarray(np.full((4, 4), strange, np.float32)), "TIFF"))
        assert len(np.unique(constant)) == 1


def test_a_part_is_scaled_by_the_range_of_the_whole_picture() -> None:
    content = encode(Image.fromarray((RAMP * 7 - 2).astype(np.float32)), "TIFF")
    part = rgb_crop(content, DEFAULT_LIMITS, True, lambda *_: (3, 2, 20, 9))
    np.testing.assert_array_equal(part, rgb(content)[2:9, 3:20])


def transparent(mode: str) -> Image.Image:
    """Black; the left half fully transparent, the right half opaque."""
    alpha = Image.new("L", (16, 8), 255)
    alpha.paste(0, (0, 0, 8, 8))
    image = Image.new("LA" if mode == "LA" else "RGBA", (16, 8), 0)
    image.putalpha(alpha)
    return image.convert(mode) if image.mode != mode else image


def with_key(mode: str, key: Any, other: Any) -> bytes:
    """The left half in the colour that stands for transparent, the right half in another one."""
    image = Image.new(mode, (16, 8), key)
    image.paste(Image.new(mode, (8, 8), other), (8, 0))
    if mode == "P":
        image.putpalette([0, 0, 0, 1, 1, 1])
    return encode(image, "PNG", transparency=key)


@pytest.mark.parametrize(
    "content",
    [
        encode(transparent("RGBA"), "PNG"),
        encode(transparent("RGBA"), "WEBP", lossless=True, exact=True),
        encode(transparent("RGBA"), "TIFF"),
        encode(transparent("LA"), "PNG"),
        encode(transparent("PA"), "TIFF"),
        with_key("L", 0, 1),
        with_key("RGB", (0, 0, 0), (1, 1, 1)),
        with_key("P", 1, 0),
        with_key("I;16", 0, 300),
        with_key("1", 0, 1),
    ],
    ids=[
        "png",
        "webp",
        "tiff",
        "grey-alpha",
        "palette-alpha",
        "grey-key",
        "rgb-key",
        "palette-key",
        "16-bit-key",
        "1-bit",
    ],
)
@case(SECTION, "a picture with transparent parts", "laid on white; black on transparent is not all black")
def test_transparent_parts_are_white(content: bytes) -> None:
    pixels = rgb(content)
    assert (pixels[:, :8] == 255).all()
    if pixels[0, 8:].max() < 255:
        assert (pixels[:, 8:] <= 1).all()


def test_half_transparent_pixels_are_mixed_with_white() -> None:
    for image in (Image.new("RGBA", (4, 4), (0, 0, 0, 128)), Image.new("LA", (4, 4), (0, 128))):
        assert np.abs(rgb(encode(image, "PNG")) - 127).max() <= 1
    palette = encode(Image.new("P", (4, 4), 0), "PNG", transparency=b"\x80")
    assert np.abs(rgb(palette) - 127).max() <= 1


@pytest.mark.parametrize(
    ("mode", "kind", "tolerance"),
    [
        ("L", "PNG", 0), ("L", "JPEG", 8), ("P", "PNG", 0), ("P", "GIF", 0), ("L", "BMP", 0), ("RGB", "BMP", 0),
        ("RGB", "PPM", 0), ("L", "PPM", 0), ("CMYK", "TIFF", 1), ("CMYK", "JPEG", 12), ("YCbCr", "TIFF", 2),
        ("LAB", "TIFF", 2), ("RGBX", "TIFF", 0), ("RGB", "AVIF", 12), ("RGB", "WEBP", 12), ("La", "LA", 1),
    ],
)  # fmt: skip
@case(
    SECTION,
    "CMYK, YCbCr, CIELAB, palette and grey pictures in PNG, JPEG, TIFF, GIF, BMP, AVIF, WebP, PPM",
    "shown right",
)
def test_every_kind_of_colour_becomes_rgb(mode: str, kind: str, tolerance: int) -> None:
    grey = Image.fromarray(GREY8)
    if kind == "LA":
        pixels = np.asarray(pictures._on_white(grey.convert("LA").convert("La"))).astype(int)
    else:
        pixels = rgb(encode(grey.convert("RGB").convert(mode) if mode not in "LP" else grey.convert(mode), kind))
    assert is_grey_ramp(pixels, tolerance)


def without_segment(content: bytes, marker: int) -> bytes:
    """A JPEG without its segments of a kind."""
    kept, position = content[:2], 2
    while content[position + 1] != 0xDA:
        end = position + 2 + int.from_bytes(content[position + 2 : position + 4], "big")
        if content[position + 1] != marker:
            kept += content[position:end]
        position = end
    return kept + content[position:]


def jpegs() -> dict[str, bytes]:
    """A JPEG of each colour space that decoders tell apart."""
    image = Image.fromarray(smooth_pixels(64, 48))
    cmyk = encode(image.convert("CMYK"), "JPEG", quality=95)
    adobe = cmyk.index(b"\xff\xee")
    plain, coded_rgb = encode(image, "JPEG", quality=95), encode(image, "JPEG", quality=95, keep_rgb=True)
    return {
        "YCbCr": plain,
        "YCbCr without JFIF": without_segment(plain, 0xE0),
        "progressive": encode(image, "JPEG", progressive=True),
        "4:1:1": encode(image, "JPEG", subsampling="4:1:1"),
        "grey": encode(image.convert("L"), "JPEG"),
        "RGB": coded_rgb,
        "RGB without Adobe's segment": without_segment(without_segment(coded_rgb, 0xEE), 0xE0),
        "CMYK": cmyk,
        "CMYK without Adobe's segment": without_segment(cmyk, 0xEE),
        "YCCK": cmyk[: adobe + 15] + b"\x02" + cmyk[adobe + 16 :],
    }


@pytest.mark.parametrize("name", jpegs())
def test_both_decoders_agree_on_a_jpeg_of_every_colour_space(name: str) -> None:
    content = jpegs()[name]
    fast = decode_and_crop(content, SMALL, (1.0, 1.0), 0, 0, "a").astype(int)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("laclip_ray.data.images._crop_jpeg", lambda *_: None)
        usual = decode_and_crop(content, SMALL, (1.0, 1.0), 0, 0, "a")
    assert np.abs(fast - usual).max() <= 4  # the fast one decodes at half the size
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    np.testing.assert_array_equal(rgb(content), expected)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
@case(SECTION, "an animation (GIF, WebP, PNG, AVIF), or a TIFF of several pages", "the first frame is used")
def test_the_first_frame_of_an_animation_is_used(kind: str) -> None:
    first = Image.fromarray(smooth_pixels(32, 24)).quantize(64).convert("RGB")
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind == "AVIF" else {}
    other = Image.new("RGB", first.size, "red")
    content = encode(first, kind, save_all=True, append_images=[other, other], **options)
    assert np.abs(rgb(content) - np.asarray(first)).mean() < (4 if kind in ("AVIF", "GIF") else 0.001)


def turned(kind: str, orientation: int, image: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {"quality": 100}
    return encode(image, kind, exif=exif, **options)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
@case(SECTION, "a photograph with an EXIF orientation", "turned upright; with data.exif: false it is used as stored")
def test_a_picture_is_turned_upright(kind: str, orientation: int) -> None:
    image = Image.fromarray(smooth_pixels(48, 32))
    content = turned(kind, orientation, image)
    upright = image if orientation == 1 else image.transpose(TRANSPOSITIONS[orientation])
    assert np.abs(rgb(content) - np.asarray(upright)).mean() < 3
    if kind != "TIFF":  # Pillow turns TIFFs itself
        stored = np.asarray(open_rgb(content, DEFAULT_LIMITS, exif=False))
        assert np.abs(stored.astype(int) - np.asarray(image)).mean() < 3


def test_large_pictures_are_converted_in_bands_to_the_same_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    contents = [
        encode(Image.fromarray(smooth_pixels(40, 30)).convert(mode), "TIFF")
        for mode in ("RGB", "RGBA", "L", "CMYK", "F", "I")
    ]
    whole = [rgb(content) for content in contents]
    for band in (1, 100, 999):
        monkeypatch.setattr(pictures, "_BAND_PIXELS", band)
        for content, expected in zip(contents, whole, strict=True):
            np.testing.assert_array_equal(rgb(content), expected)


@pytest.fixture(scope="module")
def hostile() -> dict[str, tuple[bytes, str]]:
    return hostile_files()


@case(
    SECTION,
    "a PNG of 21 KB with 169 megapixels; headers of any format that claim gigapixels",
    "not decoded",
    counted_as="image_too_large",
)
@case(
    SECTION,
    "a TIFF with 300,000 strips, values or a giant tile; a JPEG with 20,000 scans",
    "not decoded",
    counted_as="image_too_large",
)
@case(SECTION, "a picture of 1 x 60,000 pixels, in evaluation", "not resized", counted_as="image_too_thin")
@case(
    SECTION,
    "a PNG whose colour profile or text expands to 100 MiB",
    "expansion stops at 1 MiB",
    counted_as="image_unreadable",
)
@case(SECTION, "an EPS, PDF, icon or SVG named .jpg", "no program is started", counted_as="image_format_refused")
@pytest.mark.filterwarnings("ignore")  # of pictures above 89 million pixels
def test_hostile_files_are_refused_by_reason(hostile: dict[str, tuple[bytes, str]]) -> None:
    reasons = {}
    for name, (content, _) in hostile.items():
        with pytest.raises(ImageError) as caught:
            open_rgb(content, DEFAULT_LIMITS, exif=True)
        reasons[name] = caught.value.reason
    assert reasons == {name: reason for name, (_, reason) in hostile.items()}


def test_a_thin_picture_can_be_cropped() -> None:
    content = encode(Image.new("RGB", (1, 60_000), "red"), "PNG")
    assert decode_and_crop(content, SMALL, (0.5, 1.0), 0, 0, "a").shape == (16, 16, 3)


@pytest.mark.parametrize(
    "content",
    [
        b"%!PS-Adobe-3.0", b"\xc5\xd0\xd3\xc6", b"%PDF-1.7", b"8BPS", b"\0\0\1\0\1\0", b"\0\0\0\x0cjP  \r\n",
        b"\xff\x0a\0", b"\0\0\0\x18ftypheic", b"<svg xmlns=''/>", b"<?xml version='1.0'?>\n<svg/>",
        b" \n<!-- a --><svg/>", b"qoif", b"DDS ",
    ],
)  # fmt: skip
def test_other_image_formats_are_refused_as_such(content: bytes) -> None:
    with pytest.raises(ImageError, match="image_format_refused: not one of JPEG, PNG"):
        open_rgb(content, DEFAULT_LIMITS, exif=True)


@pytest.mark.parametrize("content", [b"", b"no image", b"<html></html>", b"<?xml version='1.0'?><a/>", b'{"a": 1}'])
def test_other_bytes_are_unreadable(content: bytes) -> None:
    with pytest.raises(ImageError, match="image_unreadable"):
        open_rgb(content, DEFAULT_LIMITS, exif=True)


@pytest.mark.parametrize(
    ("kind", "weight"), [("PNG", 1), ("JPEG", 1), ("GIF", 1), ("WEBP", 2), ("AVIF", 2), ("TIFF", 2)]
)
def test_pixels_count_by_what_decoding_takes(kind: str, weight: int) -> None:
    content = encode(Image.new("RGB", (30, 20)), kind)
    rgb(content, ImageLimits(10**6, 600 * weight))
    with pytest.raises(ImageError, match=IMAGE_TOO_LARGE):
        open_rgb(content, ImageLimits(10**6, 600 * weight - 1), exif=True)


def raise_memory_error(*_: object, **__: object) -> Any:
    raise MemoryError


def test_a_picture_that_does_not_fit_in_memory_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "open", raise_memory_error)
    with pytest.raises(ImageError, match=IMAGE_TOO_LARGE):
        open_rgb(b"any", DEFAULT_LIMITS, exif=True)


def test_an_error_keeps_its_reason_when_it_travels() -> None:
    error = pickle.loads(pickle.dumps(ImageError("image_a", "b")))  # noqa: S301
    assert (error.reason, str(error)) == ("image_a", "image_a: b")


def damage(content: bytes, flips: list[tuple[float, int]]) -> bytes:
    damaged = bytearray(content)
    for place, value in flips:
        damaged[int(place * (len(damaged) - 1))] = value
    return bytes(damaged)


WHOLE: dict[str, Callable[[], bytes]] = {
    kind: lambda kind=kind: encode(Image.fromarray(smooth_pixels(24, 20)), kind)  # type: ignore[misc]
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
}


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.filterwarnings("ignore")
@given(flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=12))
def test_a_damaged_picture_is_a_picture_or_an_image_error(kind: str, flips: list[tuple[float, int]]) -> None:
    content = damage(WHOLE[kind](), flips)
    try:
        image = open_rgb(content, ImageLimits(10**6, 10**6), exif=True)
    except ImageError:
        return
    assert image.mode == "RGB"
