"""A tar gives every whole sample, and a damaged tar reports its truncation."""

import bz2
import gzip
import io
import json
import lzma
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.config import DataConfig
from laclip_ray.data import records, webdataset
from laclip_ray.data.image_formats import IMAGE_TOO_LARGE
from laclip_ray.data.records import Sample
from tests.cases import case
from tests.unit.conftest import tar_bytes, write_tar
from tests.unit.data.files import captions, ids, read
from tests.unit.data.tar_files import END, member, symbolic_link


def test_a_webdataset_gives_every_image_kind_with_its_caption_and_key(tmp_path: Path) -> None:
    members = []
    extensions = ("jpg", "jpeg", "png", "webp", "JPG", "gif", "bmp", "tif", "tiff", "avif", "jpe", "jfif", "ppm")
    for number, extension in enumerate(extensions):
        members += [(f"k{number}.{extension}", b"image%d" % number), (f"k{number}.txt", f"caption {number}".encode())]
    write_tar(tmp_path / "0.tar", members)
    samples = read(DataConfig(path=str(tmp_path)))
    assert samples == [Sample(n, f"k{n}", f"caption {n}", b"image%d" % n) for n in range(len(extensions))]


def test_without_a_txt_member_the_caption_comes_from_json(tmp_path: Path) -> None:
    described = json.dumps({"caption": "described", "alt": "other"}).encode()
    write_tar(
        tmp_path / "0.tar",
        [("a.jpg", b"i"), ("a.json", described), ("b.jpg", b"i"), ("b.json", described), ("b.txt", b"plain")],
    )
    path = str(tmp_path / "0.tar")
    assert captions(read(DataConfig(path=path))) == ["described", "plain"]
    assert captions(read(DataConfig(path=path, caption_column="alt"))) == ["other", "plain"]


def test_webdataset_ids_are_keys_with_directories_or_a_field_of_the_json(tmp_path: Path) -> None:
    write_tar(
        tmp_path / "0.tar",
        [("d/a.jpg", b"i"), ("d/a.txt", b"one"), ("d/a.json", b'{"key": 7}'), ("d/b.jpg", b"i"), ("d/b.txt", b"two")],
    )
    path = str(tmp_path / "0.tar")
    assert ids(read(DataConfig(path=path))) == ["d/a", "d/b"]
    samples = read(DataConfig(path=path, id_column="key"))
    assert ids(samples) == ["7", "d/b"]
    assert [sample.problems for sample in samples] == [(), (records.ID_MISSING,)]


def test_further_dots_belong_to_the_extension_as_in_webdataset(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", [("a.seg.png", b"mask"), ("a.png", b"image"), ("a.txt", b"caption")])
    assert read(DataConfig(path=str(tmp_path))) == [Sample(0, "a", "caption", b"image")]


def test_members_outside_any_sample_are_ignored(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", [("README", b"x"), (".hidden", b"x"), ("a.jpg", b"i"), ("a.txt", b"caption")])
    assert ids(read(DataConfig(path=str(tmp_path)))) == ["a"]


def test_a_repeated_key_becomes_a_numbered_id_with_a_note(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", [(f"a.{part}", b"x") for _ in range(3) for part in ("jpg", "txt")])
    samples = read(DataConfig(path=str(tmp_path)))
    assert ids(samples) == ["a", "a#2", "a#3"]
    assert [sample.problems for sample in samples] == [(), (records.DUPLICATE_ID,), (records.DUPLICATE_ID,)]


@pytest.mark.parametrize(
    ("members", "caption", "problems"),
    [
        ([("a.jpg", b"i")], "", (records.CAPTION_MISSING,)),
        ([("a.jpg", b"i"), ("a.json", b"{broken")], "", (records.CAPTION_MISSING,)),
        ([("a.jpg", b"i"), ("a.json", b"[1]")], "", (records.CAPTION_MISSING,)),
        ([("a.jpg", b"i"), ("a.json", b'{"caption": 3}')], "", (records.CAPTION_MISSING,)),
        ([("a.jpg", b"i"), ("a.txt", b" \n")], "", (records.CAPTION_EMPTY,)),
        ([("a.jpg", b"i"), ("a.txt", b"")], "", (records.CAPTION_EMPTY,)),
        ([("a.jpg", b"i"), ("a.txt", b"caf\xe9 noir")], "caf\ufffd noir", (records.CAPTION_NOT_UTF8,)),
        ([("a.jpg", b"i"), ("a.json", b'{"caption": "x\\ud800y"}')], "x\ufffdy", (records.CAPTION_NOT_UTF8,)),
        ([("a.jpg", b"i"), ("a.txt", b"one\ntwo\n")], "one\ntwo", (records.CAPTION_LINE_BREAK,)),
        ([("a.jpg", b"i"), ("a.txt", b"one\n")], "one", ()),
        ([("a.txt", b"one")], "one", (records.IMAGE_MISSING,)),
        ([("a.cls", b"1")], "", (records.CAPTION_MISSING, records.IMAGE_MISSING)),
    ],
)
def test_a_bad_sample_is_read_with_its_problems(
    members: list[tuple[str, bytes]], caption: str, problems: tuple[str, ...], tmp_path: Path
) -> None:
    write_tar(tmp_path / "0.tar", [*members, ("b.jpg", b"i"), ("b.txt", b"good")])
    for with_images in (True, False):
        bad, good = read(DataConfig(path=str(tmp_path)), with_images)
        assert (bad.caption, bad.problems) == (caption, problems)
        assert (good.caption, good.problems) == ("good", ())


whole_tar = tar_bytes(
    [(f"{n:03}.{part}", content) for n in range(4) for part, content in (("jpg", b"i" * 700), ("txt", b"c%d" % n))]
)


@given(size=st.integers(512, len(whole_tar)) | st.integers(1, 24).map(lambda blocks: blocks * 512))
def test_a_truncated_tar_reports_its_truncation(size: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.tar"
    path.write_bytes(whole_tar[:size])
    complete = size >= 4 * (512 + 1024 + 512 + 512) + 512
    for with_images in (True, False):
        samples = read(DataConfig(path=str(path)), with_images)
        ends = [sample for sample in samples if records.SHARD_TRUNCATED in sample.problems]
        assert ends == ([] if complete else samples[-1:])
        good = captions(sample for sample in samples if not sample.problems)
        assert good == ["c0", "c1", "c2", "c3"][: len(good)]
        assert len(good) >= min(4, size // 2560)  # the whole samples
        assert [sample.row for sample in samples] == list(range(len(samples)))


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_compressed_tar_is_read_as_a_plain_one(compress: Callable[[bytes], bytes], tmp_path: Path) -> None:
    content = tar_bytes(
        (f"{number}.{kind}", b"%d %s" % (number, kind.encode())) for number in range(9) for kind in KINDS
    )
    (tmp_path / "plain.tar").write_bytes(content)
    (tmp_path / "packed.tar").write_bytes(compress(content))
    plain, packed = (read(DataConfig(path=str(tmp_path / name))) for name in ("plain.tar", "packed.tar"))
    assert plain == packed
    assert [sample.image for sample in plain] == [b"%d jpg" % number for number in range(9)]


KINDS = ("jpg", "txt")


def test_reading_a_tar_takes_no_memory_for_members_already_read() -> None:
    groups = webdataset.tar_groups(io.BytesIO(tar_bytes((f"{row}.txt", b"a caption") for row in range(2_000))), True)
    tracemalloc.start()
    try:
        for _ in range(100):
            next(groups)
        begun_bytes, _ = tracemalloc.get_traced_memory()
        assert sum(1 for _ in groups) == 1_900
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes - begun_bytes < 1_900 * 100


def test_a_damaged_header_is_reported_as_a_truncation(tmp_path: Path) -> None:
    damaged = bytearray(whole_tar)
    damaged[2560:3072] = b"\x07" * 512  # the second sample's first header
    (tmp_path / "0.tar").write_bytes(damaged)
    first, end = read(DataConfig(path=str(tmp_path)))
    assert first.caption == "c0"
    assert end.problems == (records.SHARD_TRUNCATED,)


@pytest.mark.parametrize("content", [b"", b"not a tar", b"<html>" + bytes(9_000), whole_tar[:400]])
def test_a_file_of_another_kind_cannot_be_read(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(content)
    shard = records.Shard("0.tar", str(tmp_path / "0.tar"), "webdataset")
    with pytest.raises(records.ShardUnreadableError, match=r"0\.tar is not a tar, but "):
        list(webdataset.read_webdataset(shard, DataConfig(path=""), with_images=False))


@pytest.mark.parametrize(
    ("captions_choice", "expected"),
    [
        ("first", [("a", "one"), ("b", "three"), ("c", "plain")]),
        ("all", [("a", "one"), ("a#caption2", "two"), ("b", ""), ("b#caption2", "three"), ("c", "plain")]),
    ],
)
@case("Reading data", "a list of captions in a json member", "the first one; with data.captions: all, a row for each")
def test_lists_of_captions_in_json_members(
    captions_choice: Any, expected: list[tuple[str, str]], tmp_path: Path
) -> None:
    lists = {"a": ["one", "two"], "b": ["", "three"], "c": ["not used"]}
    members = [(f"{key}.json", json.dumps({"caption": value}).encode()) for key, value in lists.items()]
    members += [("a.jpg", b"i"), ("b.jpg", b"i"), ("c.jpg", b"i"), ("c.txt", b"plain")]
    write_tar(tmp_path / "0.tar", sorted(members))
    data = DataConfig(path=str(tmp_path), captions=captions_choice)
    samples = read(data)
    assert [(sample.id, sample.caption) for sample in samples] == expected
    assert [sample.row for sample in samples] == list(range(len(expected)))
    assert [sample.caption_number for sample in samples] == [int("#" in sample.id) for sample in samples]
    assert {sample.image for sample in samples} == {b"i"}
    assert [(sample.id, sample.caption) for sample in read(data, with_images=False)] == expected


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@case("Reading data", "txt and json members in UTF-16, or with a byte order mark", "read as text, without the mark")
def test_texts_with_a_byte_order_mark_are_decoded(encoding: str, tmp_path: Path) -> None:
    write_tar(
        tmp_path / "0.tar",
        [("a.txt", "ein Ölbild".encode(encoding)), ("b.json", '{"caption": "zwei"}'.encode(encoding))],
    )
    assert captions(read(DataConfig(path=str(tmp_path)))) == ["ein Ölbild", "zwei"]


@pytest.mark.parametrize("with_images", [False, True])
def test_a_sample_is_counted_by_the_member_that_is_too_large(with_images: bool, tmp_path: Path) -> None:
    write_tar(
        tmp_path / "0.tar",
        [("a.jpg", bytes(99)), ("a.txt", b"one"), ("b.jpg", b"i"), ("b.json", bytes(records.MAX_ROW_BYTES + 1))],
    )
    first, second = read(DataConfig(path=str(tmp_path), max_image_bytes=98), with_images)
    assert (first.caption, first.image, first.problems) == ("one", None, (IMAGE_TOO_LARGE,))
    assert (second.id, second.caption, second.problems) == ("b", "", (records.MEMBER_TOO_LARGE,))


def test_ids_from_any_bytes_can_be_stored(tmp_path: Path) -> None:
    write_tar(
        tmp_path / "0.tar",
        [("\udcff.jpg", b"i"), ("\udcff.txt", b"one"), ("b.json", b'{"k": "\\ud800"}'), ("b.txt", b"two")],
    )
    sample_ids = ids(read(DataConfig(path=str(tmp_path), id_column="k")))
    assert len({sample_id.encode("utf-8") for sample_id in sample_ids}) == 2


def test_groups_hold_every_usable_member() -> None:
    tar = member("a.jpg", b"i") + member("a.npy", b"n") + symbolic_link("a.txt", "none") + symbolic_link("b.txt", "c")
    groups = webdataset.tar_groups(io.BytesIO(tar + END), with_images=True)
    assert list(groups) == [("a", {"jpg": b"i", "npy": b"n"}), ("b", {})]
