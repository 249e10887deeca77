"""Members of a tar become samples: WebDataset's keys, dots in keys, and members that cannot be used."""

import io
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from webdataset.tariterators import group_by_keys

from laclip_ray.data import tar_groups
from laclip_ray.data.byte_sources import DamagedError
from laclip_ray.data.image_formats import FORMATS, IMAGE_TOO_LARGE
from laclip_ray.data.records import CAPTION_MISSING, IMAGE_MISSING, MAX_ROW_BYTES, MEMBER_TOO_LARGE
from laclip_ray.data.tar_groups import IMAGE_MEMBERS, KNOWN_EXTENSIONS, Group, Reading, read_groups
from tests.cases import case
from tests.unit.conftest import tar_bytes
from tests.unit.data.tar_files import END, header, member, symbolic_link

SECTION = "Reading data"
ALL = Reading(images=True, others=True)
MANY_DOTTED = [f"x.{number}.{kind}" for number in range(99) for kind in ("jpg", "txt")]


def groups_of(names: list[str], reading: Reading = ALL) -> list[tuple[str, list[str]]]:
    """Key and extensions of each sample of a tar with these members."""
    tar = io.BytesIO(tar_bytes((name, name.encode()) for name in names))
    return [(group.key, list(group.members)) for group in read_groups(tar, reading)]


def keys_of(names: list[str], reading: Reading = ALL) -> list[str]:
    return [key for key, _ in groups_of(names, reading)]


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        (["img.v1.0001.jpg", "img.v1.0001.txt", "img.v1.0002.jpg", "img.v1.0002.txt"], ["img.v1.0001", "img.v1.0002"]),
        (["s0.input.jpg", "s0.input.txt", "s1.input.jpg", "s1.input.txt"], ["s0.input", "s1.input"]),
        (["s0.a.jpg", "s0.a.txt", "s0.b.jpg", "s0.b.txt"], ["s0.a", "s0.b"]),
        (["a.1.jpg", "a.1.txt", "a.2.jpg", "a.2.txt", "b.1.jpg"], ["a.1", "a.2", "b.1"]),
        (["d.x/a.1.jpg", "d.x/a.1.cls", "d.x/a.2.jpg"], ["d.x/a.1", "d.x/a.2"]),
        (["v1.0.1.JPG", "v1.0.1.json", "v1.0.2.JPG"], ["v1.0.1", "v1.0.2"]),
        (["k.1.seg.png", "k.1.png", "k.1.txt", "k.2.seg.png", "k.2.png"], ["k.1", "k.2"]),
        (["k.1.npy", "k.1.jpg", "k.2.npy", "k.2.jpg", "k.3.npy"], ["k.1", "k.2", "k.3"]),
        (MANY_DOTTED, [f"x.{number}" for number in range(99)]),
        ([*MANY_DOTTED, "x.json", *MANY_DOTTED[:4]], [*(f"x.{number}" for number in range(99)), "x", "x.0", "x.1"]),
    ],
)
@case(SECTION, "keys with dots (img.v1.0001.jpg)", "the known extension at the end decides where the key ends")
def test_keys_with_dots_end_before_the_known_extension(names: list[str], keys: list[str]) -> None:
    assert keys_of(names) == keys
    assert keys_of(names, Reading(images=False)) == keys


@pytest.mark.parametrize(
    "names",
    [
        ["a.seg.png", "a.png", "a.txt"],
        ["a.json", "a.left.png", "a.right.png"],
        ["a.depth.exr", "a.flow.flo", "b.depth.exr"],
        ["a.tar.gz", "a.flac", "b.flac"],
        ["a.1.npy", "a.2.npy"],
    ],
)
def test_compound_extensions_stay_with_their_sample(names: list[str]) -> None:
    assert keys_of(names) == sorted({name.partition(".")[0] for name in names})


pieces = st.sampled_from(["a", "b", "1", "seg", "v2"])
known = st.sampled_from(["jpg", "txt", "json", "cls", "PNG"])


@st.composite
def samples(draw: st.DrawFn) -> list[str]:
    """Members of samples that each begin with a known extension, so WebDataset's rule applies."""
    names: list[str] = []
    for number in range(draw(st.integers(0, 6))):
        stem = f"{draw(st.sampled_from(['', 'd/', './d.e/']))}{number}"
        names.append(f"{stem}.{draw(known)}")
        others = draw(st.lists(st.lists(pieces, min_size=1, max_size=3).map(".".join), max_size=4, unique=True))
        names += [f"{stem}.{extension}" for extension in others]
    return names


@given(names=samples())
def test_samples_with_a_known_extension_have_webdatasets_keys(names: list[str]) -> None:
    members: Iterator[dict[str, Any]] = ({"fname": name, "data": b"", "__url__": ""} for name in names)
    expected = [
        (sample["__key__"], [key for key in sample if not key.startswith("__")]) for sample in group_by_keys(members)
    ]
    assert groups_of(names) == expected


@given(names=st.lists(st.lists(pieces | known, min_size=1, max_size=4).map(".".join), max_size=40))
def test_every_member_is_in_one_sample_whatever_is_read(names: list[str]) -> None:
    found = groups_of(names)
    assert found == groups_of(names, Reading(images=False)) == groups_of(names, Reading(images=True))
    in_samples = [f"{key}.{extension}".lower() for key, extensions in found for extension in extensions]
    assert in_samples == [name.lower() for name in names if "." in name]


def test_images_of_every_opened_format_are_members() -> None:
    by_format = {
        "JPEG": {"jpg", "jpeg", "jpe", "jfif"}, "PNG": {"png"}, "WEBP": {"webp"}, "GIF": {"gif"}, "BMP": {"bmp", "dib"},
        "TIFF": {"tif", "tiff"}, "AVIF": {"avif"}, "PPM": {"ppm", "pgm", "pbm", "pnm"},
    }  # fmt: skip
    assert by_format.keys() == set(FORMATS)
    assert set(IMAGE_MEMBERS) == set().union(*by_format.values())
    assert set(IMAGE_MEMBERS) < KNOWN_EXTENSIONS


def test_only_the_image_that_a_sample_uses_is_kept() -> None:
    tar = tar_bytes([("a.gif", b"1"), ("a.png", b"2"), ("a.jpg", b"3"), ("a.webp", b"4"), ("a.npy", b"5")])
    (group,) = read_groups(io.BytesIO(tar), Reading(images=True))
    assert (group.image, group.members) == ("jpg", {"gif": None, "png": None, "jpg": b"3", "webp": None, "npy": None})
    (group,) = read_groups(io.BytesIO(tar), ALL)
    assert (group.image, None in group.members.values()) == ("jpg", False)


@pytest.mark.parametrize("images", [False, True])
@case(SECTION, "an image member above data.max_image_bytes", "never read; counted", counted_as="image_too_large")
@case(SECTION, "a text member of a tar above 16 MiB", "never read; counted", counted_as="member_too_large")
def test_members_above_a_limit_are_not_read(images: bool) -> None:
    reading = Reading(images, max_image_bytes=1_000)
    tar = b"".join(
        (
            member("a.jpg", bytes(1_001)), member("a.txt", b"a"),
            member("b.jpg", bytes(1_000)), member("b.txt", bytes(MAX_ROW_BYTES + 1)),
            member("c.txt", b"c"), END,
        )
    )  # fmt: skip
    first, second, third = read_groups(io.BytesIO(tar), reading)
    assert (first.members, first.problems) == ({"jpg": None, "txt": b"a"}, {"jpg": IMAGE_TOO_LARGE})
    assert (second.members["txt"], second.problems) == (None, {"txt": MEMBER_TOO_LARGE})
    assert third == Group("c", {"txt": b"c"})


@pytest.mark.parametrize("images", [False, True])
def test_a_claim_beyond_the_end_is_reported_with_its_sample(images: bool) -> None:
    tar = member("1.jpg", b"i") + member("1.txt", b"one") + header("2.jpg", 2**40) + b"x" * 600
    found = read_groups(io.BytesIO(tar), Reading(images))
    assert next(found).key == "1"
    assert next(found).problems == {"jpg": IMAGE_TOO_LARGE}
    with pytest.raises(DamagedError):
        next(found)


def test_links_to_nothing_are_problems_of_their_sample() -> None:
    tar = symbolic_link("a.jpg", "none.jpg") + symbolic_link("a.txt", "none.txt") + END
    (group,) = read_groups(io.BytesIO(tar), ALL)
    assert group.problems == {"jpg": IMAGE_MISSING, "txt": CAPTION_MISSING}


@given(size=st.integers(512, 4 * 3 * 512 + 511), images=st.booleans())
def test_a_cut_among_members_that_were_read_ahead_loses_only_the_last_sample(size: int, images: bool) -> None:
    whole = b"".join(member(f"k.{number}.{kind}", b"x" * 600) for number in range(2) for kind in ("jpg", "txt"))
    found: list[str] = []
    with pytest.raises(DamagedError):
        found.extend(group.key for group in read_groups(io.BytesIO((whole + END)[:size]), Reading(images)))
    expected = [group.key for group in read_groups_until_damage((whole + END)[:size], Reading(not images))]
    assert found == expected == ["k.0", "k.1"][: len(found)]
    assert len(found) >= size // (2 * 3 * 512)


def read_groups_until_damage(tar: bytes, reading: Reading) -> list[Group]:
    found: list[Group] = []
    with pytest.raises(DamagedError):
        found.extend(read_groups(io.BytesIO(tar), reading))
    return found


def test_reading_ahead_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_groups, "_LOOK_AHEAD_BYTES", 2_000)
    names = [f"x.{number}.{kind}" for number in range(50) for kind in ("jpg", "txt")]
    tar = io.BytesIO(tar_bytes((name, bytes(900)) for name in names))
    found = read_groups(tar, ALL)
    assert next(found).key == "x.0"
    assert tar.tell() < 8 * 1_536
    assert [group.key for group in found] == [f"x.{number}" for number in range(1, 50)]
