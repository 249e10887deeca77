"""The sizes of an AVIF's frames are read from its AV1 data, not from its container."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from laclip_ray.data.avif_header import frame_sizes
from laclip_ray.data.image_formats import DEFAULT_LIMITS, IMAGE_TOO_LARGE, ImageError
from laclip_ray.data.pictures import open_rgb
from tests.cases import case
from tests.unit.conftest import encode, picture


@given(width=st.integers(1, 300), height=st.integers(1, 300))
def test_the_size_of_a_picture_is_that_of_its_frame(width: int, height: int) -> None:
    assert list(frame_sizes(picture("AVIF", width, height))) == [(width, height)]


def test_transparency_and_animations_have_frames_of_their_own() -> None:
    transparent = encode(Image.new("RGBA", (70, 33), (1, 2, 3, 100)), "AVIF")
    assert list(frame_sizes(transparent)) == [(70, 33)] * 2
    first, second = Image.new("RGB", (50, 40)), Image.new("RGB", (50, 40), "red")
    animation = encode(first, "AVIF", save_all=True, append_images=[second])
    assert set(frame_sizes(animation)) == {(50, 40)}


@case(
    "Reading data",
    "an AVIF whose container claims 64 x 64 pixels, and whose frame has 36 megapixels",
    "not decoded",
    counted_as="image_too_large",
)
def test_a_frame_that_is_larger_than_its_container_claims_is_refused() -> None:
    content = bytearray(encode(Image.new("L", (6_000, 6_000)), "AVIF", speed=10))
    position = content.index(b"ispe")
    content[position + 8 : position + 16] = struct.pack(">II", 64, 64)
    with pytest.raises(ImageError, match="6000 x 6000") as caught:
        open_rgb(bytes(content), DEFAULT_LIMITS, exif=True)
    assert caught.value.reason == IMAGE_TOO_LARGE


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=20), st.floats(0, 1))
def test_any_damaged_file_can_be_parsed(flips: list[tuple[float, int]], share: float) -> None:
    content = bytearray(encode(Image.new("RGBA", (20, 20)), "AVIF"))
    for place, value in flips:
        content[int(place * (len(content) - 1))] = value
    sizes = list(frame_sizes(bytes(content[: int(share * len(content))])))
    assert all(1 <= side <= 2**16 for size in sizes for side in size)


@given(st.binary(max_size=200), st.sampled_from([b"", b"\0\0\0\x18ftypavif", b"\0\0\0\0meta\0\0\0\0\0\0\0\0iloc"]))
def test_any_bytes_can_be_parsed(content: bytes, start: bytes) -> None:
    list(frame_sizes(start + content))
