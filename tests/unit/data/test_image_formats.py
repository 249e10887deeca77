"""Encoded images are refused by their bytes alone where decoding them would cost too much."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from laclip_ray.config import DataConfig
from laclip_ray.data.image_formats import (
    DEFAULT_LIMITS,
    FORMATS,
    IMAGE_TOO_LARGE,
    ImageError,
    ImageLimits,
    check_content,
    image_problem,
    is_refused_format,
)
from laclip_ray.data.records import IMAGE_MISSING, Sample
from tests.unit.conftest import encode, picture
from tests.unit.data.hostile import grey_tiff, many_scans

ORIENTATION = 0x0112
LIMITS = ImageLimits(2**20, 1_000)


def turned_jpeg(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encode(Image.new("RGB", (8, 8)), "JPEG", exif=exif)


def test_the_limits_of_a_config_are_its_own_and_the_defaults_those_of_a_config_that_sets_none() -> None:
    assert ImageLimits.of(DataConfig(path="a")) == DEFAULT_LIMITS
    assert ImageLimits.of(DataConfig(path="a", max_image_bytes=5, max_pixels=7)) == ImageLimits(5, 7)


def test_bytes_and_pixels_are_compared_with_their_limits() -> None:
    check_content(bytes(2**20), LIMITS)
    with pytest.raises(ImageError, match=r"1048577 bytes; data\.max_image_bytes is 1048576"):
        check_content(bytes(2**20 + 1), LIMITS)
    LIMITS.check_pixels(20, 50)
    LIMITS.check_pixels(10, 50, weight=2)
    with pytest.raises(ImageError, match=r"20 x 51 pixels; data\.max_pixels is 1000"):
        LIMITS.check_pixels(20, 51)
    with pytest.raises(ImageError, match=r"10 x 51 pixels, each counted twice; data\.max_pixels is 1000"):
        LIMITS.check_pixels(10, 51, weight=2)


def test_the_orientation_of_a_jpeg_is_in_its_first_exif_segment() -> None:
    assert [check_content(turned_jpeg(orientation), LIMITS) for orientation in range(10)] == [
        1,
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        8,
        1,
    ]
    content = turned_jpeg(6)
    position = content.index(b"\xff\xe1")
    for before in (
        b"\0\0",
        b"\xff\xff",
        b"\xff\xfe\x00\x04ab",
        b"\xff\xe1\x00\x0ahttp://a",
        turned_jpeg(6)[2:position],
    ):
        assert check_content(content[:position] + before + content[position:], LIMITS) == 6
    second = turned_jpeg(3)
    segment = second[position : second.index(b"\xff\xdb")]
    assert check_content(content[:position] + segment + content[position:], LIMITS) == 3
    assert check_content(picture("PNG"), LIMITS) == 1


@given(st.binary(max_size=60))
def test_any_bytes_after_the_start_of_a_jpeg_give_an_orientation(content: bytes) -> None:
    assert check_content(b"\xff\xd8" + content, LIMITS) in range(1, 9)


def test_only_progressive_jpegs_have_their_scans_counted() -> None:
    check_content(many_scans(400), LIMITS)
    with pytest.raises(ImageError, match="more than 500 scans"):
        check_content(many_scans(501), LIMITS)
    thumbnails = encode(Image.new("RGB", (8, 8)), "JPEG", comment=b"\xff\xda" * 600)
    check_content(thumbnails, LIMITS)


@given(st.binary(max_size=200), st.sampled_from([b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"]))
def test_any_bytes_after_the_start_of_a_tiff_pass_or_are_too_large(content: bytes, start: bytes) -> None:
    try:
        check_content(start + content, LIMITS)
    except ImageError as error:
        assert error.reason == IMAGE_TOO_LARGE  # noqa: PT017 - no error is right too


@pytest.mark.parametrize("kind", [3, 4, 5, 12])
def test_a_tiff_tag_has_a_bounded_number_of_values(kind: int) -> None:
    check_content(grey_tiff(16, 16, (700, kind, 2**18, 8)), LIMITS)
    with pytest.raises(ImageError, match="TIFF tag 700 with 262145 values"):
        check_content(grey_tiff(16, 16, (700, kind, 2**18 + 1, 8)), LIMITS)
    check_content(grey_tiff(16, 16, (34_675, 7, 2**19, 8)), LIMITS)  # bytes, such as a colour profile


def test_a_tiff_tile_is_at_most_a_whole_picture() -> None:
    check_content(grey_tiff(16, 16, (322, 3, 1, 20), (323, 3, 1, 50)), LIMITS)
    with pytest.raises(ImageError, match="20 x 51 pixels"):
        check_content(grey_tiff(16, 16, (322, 3, 1, 20), (323, 4, 1, 51)), LIMITS)


def test_formats_that_are_opened_are_not_refused() -> None:
    assert set(FORMATS) == {"JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM"}
    for kind in FORMATS:
        assert not is_refused_format(picture(kind))


def test_the_problem_of_a_sample_without_an_image_is_the_one_about_its_image() -> None:
    def problem(*problems: str) -> str:
        return image_problem(Sample(0, "a", "b", None, problems))

    assert problem("duplicate_id", "image_http_403", "id_missing") == "image_http_403"
    assert problem("duplicate_id") == problem() == IMAGE_MISSING
