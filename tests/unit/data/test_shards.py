"""Every format gives the same rows however it is cut, and a bad row comes out with its problems."""

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import threading
import tracemalloc
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laclip_ray import storage
from laclip_ray.config import DataConfig
from laclip_ray.data import records, webdataset
from laclip_ray.data.records import Sample, hash_caption
from laclip_ray.data.shards import list_shards, read_samples
from laclip_ray.errors import UserError
from tests.unit.conftest import picture, tar_bytes, write_tar


def read(data: DataConfig, with_images: bool = True) -> list[Sample]:
    return [sample for shard in list_shards(data) for sample in read_samples(shard, data, with_images)]


def captions(samples: Iterable[Sample]) -> list[str]:
    return [sample.caption for sample in samples]


def ids(samples: Iterable[Sample]) -> list[str]:
    return [sample.id for sample in samples]


def refused(data: DataConfig, setting: str = "data") -> str:
    with pytest.raises(UserError) as caught:
        list_shards(data, setting)
    return str(caught.value)


# --- WebDataset


def test_a_webdataset_gives_every_image_kind_with_its_caption_and_key(tmp_path: Path) -> None:
    members = []
    for number, extension in enumerate(("jpg", "jpeg", "png", "webp", "JPG")):
        members += [(f"k{number}.{extension}", b"image%d" % number), (f"k{number}.txt", f"caption {number}".encode())]
    write_tar(tmp_path / "0.tar", members)
    samples = read(DataConfig(path=str(tmp_path)))
    assert samples == [Sample(n, f"k{n}", f"caption {n}", b"image%d" % n) for n in range(5)]


def test_a_json_member_gives_the_caption_where_there_is_no_txt(tmp_path: Path) -> None:
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
    assert ids(read(DataConfig(path=path, id_column="key"))) == ["7", "d/b"]


def test_further_dots_belong_to_the_extension_as_in_webdataset(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", [("a.seg.png", b"mask"), ("a.png", b"image"), ("a.txt", b"caption")])
    assert read(DataConfig(path=str(tmp_path))) == [Sample(0, "a", "caption", b"image")]


def test_what_belongs_to_no_sample_is_left_out(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", [("README", b"x"), (".hidden", b"x"), ("a.jpg", b"i"), ("a.txt", b"caption")])
    assert ids(read(DataConfig(path=str(tmp_path)))) == ["a"]


def test_a_repeated_key_becomes_another_id_and_a_problem(tmp_path: Path) -> None:
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
def test_a_bad_sample_comes_out_with_its_problems(
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


@given(size=st.integers(0, len(whole_tar)) | st.integers(0, 24).map(lambda blocks: blocks * 512))
def test_a_tar_that_ends_in_the_middle_says_so(size: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.tar"
    path.write_bytes(whole_tar[:size])
    complete = size >= 4 * (512 + 1024 + 512 + 512) + 512
    for with_images in (True, False):
        samples = read(DataConfig(path=str(path)), with_images)
        ends = [sample for sample in samples if records.SHARD_TRUNCATED in sample.problems]
        assert ends == ([] if complete else samples[-1:])
        good = captions(sample for sample in samples if not sample.problems)
        assert good == ["c0", "c1", "c2", "c3"][: len(good)]
        assert len(good) >= min(4, size // 2560)  # those that are whole
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


def test_reading_a_tar_keeps_nothing_of_what_it_has_read() -> None:
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


def test_a_tar_with_a_damaged_header_says_that_it_ends_there(tmp_path: Path) -> None:
    damaged = bytearray(whole_tar)
    damaged[2560:3072] = b"\x07" * 512  # the second sample's first header
    (tmp_path / "0.tar").write_bytes(damaged)
    first, end = read(DataConfig(path=str(tmp_path)))
    assert first.caption == "c0"
    assert end.problems == (records.SHARD_TRUNCATED,)


def test_a_file_that_is_no_tar_is_one_row_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(b"not a tar")
    (sample,) = read(DataConfig(path=str(tmp_path)))
    assert sample.problems == (records.SHARD_TRUNCATED,)


def test_ids_from_any_bytes_can_be_stored(tmp_path: Path) -> None:
    write_tar(
        tmp_path / "0.tar",
        [("\udcff.jpg", b"i"), ("\udcff.txt", b"one"), ("b.json", b'{"k": "\\ud800"}'), ("b.txt", b"two")],
    )
    found = ids(read(DataConfig(path=str(tmp_path), id_column="k")))
    assert len({each.encode("utf-8") for each in found}) == 2


# --- Parquet


def write_parquet(path: Path, columns: dict[str, Any], row_group_size: int | None = None) -> DataConfig:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return DataConfig(path=str(path))


def test_parquet_gives_image_bytes_captions_and_the_url_as_id(tmp_path: Path) -> None:
    data = write_parquet(
        tmp_path / "a.parquet", {"image": [b"x", b"y"], "caption": ["one", "two"], "url": ["u1", "u2"]}
    ).model_copy(update={"image_column": "image"})
    assert read(data) == [Sample(0, "u1", "one", b"x"), Sample(1, "u2", "two", b"y")]


def test_parquet_takes_hugging_faces_image_feature(tmp_path: Path) -> None:
    (tmp_path / "y.png").write_bytes(b"from the file")
    images = [
        {"bytes": b"x", "path": None},
        {"bytes": None, "path": "y.png"},
        {"bytes": None, "path": None},
        None,
    ]
    data = write_parquet(tmp_path / "a.parquet", {"image": images, "caption": ["a", "b", "c", "d"]}).model_copy(
        update={"image_column": "image"}
    )
    samples = read(data)
    assert [sample.image for sample in samples] == [b"x", b"from the file", None, None]
    assert [sample.problems for sample in samples] == [(), (), (records.IMAGE_MISSING,), (records.IMAGE_MISSING,)]
    assert ids(samples) == [hash_caption(text) for text in "abcd"] == ids(read(data, with_images=False))


@pytest.mark.parametrize("kind", ["string", "large_string", "dictionary"])
def test_parquet_with_image_paths_has_them_as_ids_with_and_without_images(kind: str, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"content")
    paths = pa.array(["x.png", "none.png"])
    paths = paths.dictionary_encode() if kind == "dictionary" else paths.cast(kind)
    data = write_parquet(tmp_path / "a.parquet", {"image": paths, "caption": ["a", "b"]}).model_copy(
        update={"image_column": "image"}
    )
    assert [sample.image for sample in read(data)] == [b"content", None]
    assert ids(read(data)) == ids(read(data, with_images=False)) == ["x.png", "none.png"]


@settings(max_examples=30)
@given(rows=st.integers(1, 40), group=st.integers(1, 40), at_most=st.integers(1, 40))
def test_ranges_of_a_parquet_file_give_every_row_once(
    rows: int, group: int, at_most: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "ranges.parquet"
    data = write_parquet(path, {"caption": [f"c{n}" for n in range(rows)]}, row_group_size=group).model_copy(
        update={"max_rows_per_shard": at_most}
    )
    found = list_shards(data)
    parts = [list(read_samples(shard, data, with_images=False)) for shard in found]
    assert captions(sample for part in parts for sample in part) == [f"c{n}" for n in range(rows)]
    assert all(
        len(part) == shard.row_count and shard.row_count <= at_most for part, shard in zip(parts, found, strict=True)
    )
    assert all([sample.row for sample in part] == list(range(len(part))) for part in parts)
    assert len({shard.name for shard in found}) == len(found)


def test_ranges_are_right_across_the_batches_that_a_row_group_is_read_in(tmp_path: Path) -> None:
    data = write_parquet(tmp_path / "a.parquet", {"caption": [f"c{n}" for n in range(5_000)]}).model_copy(
        update={"max_rows_per_shard": 1_500}
    )
    assert captions(read(data)) == [f"c{n}" for n in range(5_000)]


def test_parquet_captions_with_problems_are_rows_with_problems(tmp_path: Path) -> None:
    texts = pa.array([b"caf\xe9", b"good"]).view(pa.string())  # Arrow does not check it
    data = write_parquet(tmp_path / "a.parquet", {"caption": texts, "url": ["u", None]})
    bad, good = read(data, with_images=False)
    assert (bad.id, bad.caption, bad.problems) == ("u", "caf\ufffd", (records.CAPTION_NOT_UTF8,))
    assert (good.id, good.caption, good.problems) == (hash_caption("good"), "good", ())
    data = write_parquet(tmp_path / "b.parquet", {"caption": [None, "", b"bytes"][:2]})
    assert [sample.problems[0] for sample in read(data, False)] == [records.CAPTION_MISSING, records.CAPTION_EMPTY]


def test_a_file_that_is_no_parquet_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"text")
    assert "a.parquet is not readable as Parquet" in refused(DataConfig(path=str(tmp_path)))


# --- text tables


def test_csv_with_quoted_line_breaks_gives_whole_records(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('caption,url\n"one\ntwo, ""three""",u1\n\nfour,u2\n', encoding="utf-8")
    first, second = read(DataConfig(path=str(tmp_path)), with_images=False)
    assert (first.id, first.caption, first.problems) == ("u1", 'one\ntwo, "three"', (records.CAPTION_LINE_BREAK,))
    assert (second.id, second.caption, second.problems) == ("u2", "four", ())


def test_tsv_without_a_header_takes_its_columns_from_the_config(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('one "quoted\tu1\ntwo\tu2\n', encoding="utf-8")
    samples = read(DataConfig(path=str(tmp_path), columns=["caption", "url"]), with_images=False)
    assert [(sample.id, sample.caption) for sample in samples] == [("u1", 'one "quoted'), ("u2", "two")]


def test_tsv_with_a_header_takes_its_columns_from_it(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("url\tcaption\nu1\tone\n", encoding="utf-8")
    samples = read(DataConfig(path=str(tmp_path)), with_images=False)
    assert [(sample.id, sample.caption) for sample in samples] == [("u1", "one")]


def test_json_lines_give_a_row_for_each_line_that_is_not_blank(tmp_path: Path) -> None:
    lines = ['{"caption": "one", "url": "u1"}', "", "{broken", "[1]", '{"caption": "é"}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    samples = read(DataConfig(path=str(tmp_path)), with_images=False)
    assert captions(samples) == ["one", "", "", "é"]
    assert [sample.problems[:1] for sample in samples] == [
        (),
        (records.CAPTION_MISSING,),
        (records.CAPTION_MISSING,),
        (),
    ]


def write_table(path: Path, kind: str, texts: list[str]) -> DataConfig:
    rows = [(text, f"u{number}") for number, text in enumerate(texts)]
    if kind == "jsonl":
        content = "".join(json.dumps({"caption": text, "url": url}, ensure_ascii=False) + "\n" for text, url in rows)
    elif kind == "tsv":
        content = "".join(f"{text}\t{url}\n" for text, url in [("caption", "url"), *rows])
    else:
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows([("caption", "url"), *rows])
        content = buffer.getvalue()
    path.write_bytes(content.encode())
    return DataConfig(path=str(path))


table_texts = st.lists(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), min_size=1).filter(
        lambda text: text.strip() != ""
    )
    | st.sampled_from(["a\nb", 'a "quoted", b', '"', "é\n\n=> \u2028 x"]),
    min_size=1,
    max_size=12,
)


@given(texts=table_texts, kind=st.sampled_from(["csv", "tsv", "jsonl"]), at_most=st.integers(1, 5))
def test_byte_ranges_of_a_table_give_the_rows_of_the_whole(
    texts: list[str], kind: str, at_most: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if kind == "tsv":
        texts = [text.replace("\n", " ") for text in texts]
    data = write_table(tmp_path_factory.getbasetemp() / f"table.{kind}", kind, texts)
    whole = read(data, with_images=False)
    assert captions(whole) == texts
    assert ids(whole) == [f"u{number}" for number in range(len(texts))]
    cut = data.model_copy(update={"max_rows_per_shard": at_most})
    assert [(sample.id, sample.caption) for sample in read(cut, with_images=False)] == [
        (sample.id, sample.caption) for sample in whole
    ]
    assert [shard.row_count for shard in list_shards(cut)] == [
        min(at_most, len(texts) - start) for start in range(0, len(texts), at_most)
    ]


@pytest.mark.parametrize("bad", [b"foo\rbar,u\n", b"x" * 140_000 + b",u\n", b"too few\n"])
def test_a_csv_row_that_cannot_be_parsed_does_not_end_the_file(bad: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"url,caption\n" + bad + b"v,good\n")
    for at_most in (1, 10):
        data = DataConfig(path=str(tmp_path), max_rows_per_shard=at_most)
        samples = read(data, with_images=False)
        assert [sample.problems for sample in samples] == [(records.CAPTION_MISSING,), ()]
        assert samples[1].caption == "good"


def test_images_of_a_manifest_are_relative_to_it_or_to_the_configured_root(tmp_path: Path) -> None:
    for name in ("tables/x.png", "pictures/x.png"):
        storage.write_bytes(str(tmp_path / name), name.encode())
    (tmp_path / "tables" / "a.csv").write_text("image,caption\nx.png,one\n", encoding="utf-8")
    data = DataConfig(path=str(tmp_path / "tables" / "a.csv"), image_column="image")
    assert read(data)[0].image == b"tables/x.png"
    assert read(data.model_copy(update={"image_root": str(tmp_path / "pictures")}))[0].image == b"pictures/x.png"
    (tmp_path / "b.csv").write_text(f"image,caption\n{tmp_path}/pictures/x.png,one\n", encoding="utf-8")
    assert read(DataConfig(path=str(tmp_path / "b.csv"), image_column="image"))[0].image == b"pictures/x.png"


def test_images_that_lie_elsewhere_are_fetched_side_by_side_and_come_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = threading.Barrier(4, timeout=120)  # passed only where four are asked for before one is there
    first = {f"memory://pictures/{number}.png" for number in range(4)}

    def read_bytes(url: str) -> bytes:
        if url in first:
            at_once.wait()
        return url.encode()

    monkeypatch.setattr(storage, "read_bytes", read_bytes)
    rows = [{"caption": f"caption {number}", "image": f"memory://pictures/{number}.png"} for number in range(100)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    samples = read(DataConfig(path=str(tmp_path / "a.jsonl"), image_column="image"))
    assert [sample.image for sample in samples] == [row["image"].encode() for row in rows]
    assert captions(samples) == [row["caption"] for row in rows]


def test_images_that_lie_elsewhere_are_not_fetched_far_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def read_bytes(url: str) -> bytes:
        asked.append(url)
        return b""

    monkeypatch.setattr(storage, "read_bytes", read_bytes)
    rows = [{"caption": "one", "image": f"memory://pictures/{number}.png"} for number in range(1_000)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = DataConfig(path=str(tmp_path / "a.jsonl"), image_column="image")
    samples = read_samples(list_shards(data)[0], data, with_images=True)
    next(samples)
    assert len(asked) <= 33
    del samples


@pytest.mark.parametrize("image", ["none.png", "", "a\x00b.png", ".", "nosuch://a/b.png", None])
def test_an_image_that_cannot_be_read_is_missing(image: str | None, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"caption": "one", "image": image}), encoding="utf-8")
    (sample,) = read(DataConfig(path=str(tmp_path), image_column="image"))
    assert (sample.image, sample.problems) == (None, (records.IMAGE_MISSING,))


@pytest.mark.parametrize(
    ("fields", "id_column", "expected"),
    [
        ({"key": 7, "image": "x.png", "url": "u"}, "key", "7"),
        ({"key": None, "image": "x.png", "url": "u"}, "key", "x.png"),
        ({"key": "", "image": None, "url": "u"}, "key", "u"),
        ({"key": 0, "image": "x.png", "url": "u"}, "key", "0"),
        ({"image": "x.png", "url": "u"}, None, "x.png"),
        ({"image": None, "url": "u"}, None, "u"),
        ({"image": None, "url": ""}, None, hash_caption("one")),
    ],
)
def test_the_id_is_the_first_that_there_is(
    fields: dict[str, Any], id_column: str | None, expected: str, tmp_path: Path
) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"caption": "one", **fields}), encoding="utf-8")
    data = DataConfig(path=str(tmp_path), image_column="image", id_column=id_column)
    assert ids(read(data)) == [expected] == ids(read(data, with_images=False))


@given(urls=st.lists(st.sampled_from(["a", "a#2", "a#3", "b", "a#2#2"]), min_size=1, max_size=8))
def test_ids_are_unique_in_a_shard_and_repeats_are_noted(
    urls: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "ids.jsonl"
    path.write_text("".join(json.dumps({"caption": "x", "url": url}) + "\n" for url in urls), encoding="utf-8")
    samples = read(DataConfig(path=str(path)), with_images=False)
    assert len(set(ids(samples))) == len(urls)
    for sample, url in zip(samples, urls, strict=True):
        assert (records.DUPLICATE_ID in sample.problems) == (sample.id != url)


# --- all formats


def test_reading_without_images_gives_the_same_ids_and_captions(tmp_path: Path) -> None:
    parts = (("jpg", picture("JPEG")), ("txt", b"caption"))
    write_tar(tmp_path / "wds" / "0.tar", [(f"{n}.{part}", content) for n in (1, 1, 2) for part, content in parts])
    write_parquet(tmp_path / "parquet" / "a.parquet", {"image": [b"x", b"y"], "caption": ["a", "a"], "url": ["u", "u"]})
    storage.write_bytes(str(tmp_path / "csv" / "a.csv"), b"image,caption\nx.png,one\nx.png,two\n")
    for name, column in (("wds", None), ("parquet", "image"), ("csv", "image")):
        data = DataConfig(path=str(tmp_path / name), image_column=column)
        with_images, without = read(data), read(data, with_images=False)
        assert [(each.row, each.id, each.caption) for each in with_images] == [
            (each.row, each.id, each.caption) for each in without
        ]
        assert all(each.image is None for each in without)
        assert any(records.DUPLICATE_ID in each.problems for each in with_images)


def test_every_format_is_read_from_an_object_store() -> None:
    root = f"memory://unit-{uuid.uuid4().hex}"
    storage.write_bytes(f"{root}/wds/0.tar", tar_bytes([("a.jpg", b"i"), ("a.txt", b"one")]))
    storage.write_parquet(f"{root}/parquet/a.parquet", pa.table({"image": [b"i"], "caption": ["one"]}))
    storage.write_bytes(f"{root}/csv/a.csv", b"image,caption\nx.png,one\n")
    storage.write_bytes(f"{root}/csv/x.png", b"i")
    for name, column in (("wds", None), ("parquet", "image"), ("csv", "image")):
        (sample,) = read(DataConfig(path=f"{root}/{name}", image_column=column))
        assert (sample.caption, sample.image, sample.problems) == ("one", b"i", ())


def test_an_edited_caption_has_another_hash() -> None:
    assert Sample(0, "a", "one", None).caption_hash != Sample(0, "a", "one ", None).caption_hash


# --- listing


def touch(directory: Path, *names: str) -> str:
    for name in names:
        write_tar(directory / name, [("a.jpg", b"i"), ("a.txt", b"one")])
    return str(directory)


def test_shards_are_named_by_their_path_below_the_root(tmp_path: Path) -> None:
    root = touch(tmp_path, "train/0.tar", "train/1.tar", "val/0.tar")
    assert [shard.name for shard in list_shards(DataConfig(path=root))] == ["train/0.tar", "train/1.tar", "val/0.tar"]
    names = [shard.name for shard in list_shards(DataConfig(path=f"{root}/*/*.tar"))]
    assert names == ["train/0.tar", "train/1.tar", "val/0.tar"]
    assert [shard.name for shard in list_shards(DataConfig(path=f"{root}/val/0.tar"))] == ["0.tar"]


@pytest.mark.parametrize("pattern", ["", "/*/*.tar", "/**/*.tar"])
@pytest.mark.parametrize("memory", [False, True])
def test_a_shards_name_stays_when_others_come(pattern: str, memory: bool, tmp_path: Path) -> None:
    root = f"memory://unit-{uuid.uuid4().hex}/set" if memory else str(tmp_path / "set")
    content = tar_bytes([("a.jpg", b"i"), ("a.txt", b"one")])
    storage.write_bytes(f"{root}/sub/0.tar", content)
    (before,) = list_shards(DataConfig(path=f"{root}{pattern}"))
    storage.write_bytes(f"{root}/other/0.tar", content)
    after = {shard.url: shard.name for shard in list_shards(DataConfig(path=f"{root}{pattern}"))}
    assert after[before.url] == before.name == "sub/0.tar"
    assert len(set(after.values())) == 2


def test_shards_of_one_name_in_two_paths_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a/0.tar", "b/0.tar")
    message = refused(DataConfig(path=[str(tmp_path / "a"), str(tmp_path / "b")]))
    assert "would both be the shard '0.tar'" in message


def test_a_file_that_is_given_twice_is_one_shard(tmp_path: Path) -> None:
    root = touch(tmp_path, "0.tar", "1.tar")
    paths = [root, f"{root}/*.tar", f"{root}/0.tar"]
    assert [shard.name for shard in list_shards(DataConfig(path=paths))] == ["0.tar", "1.tar"]


def test_a_path_that_does_not_exist_is_refused_with_its_setting(tmp_path: Path) -> None:
    data = DataConfig(path=str(tmp_path / "none"))
    assert refused(data, "evaluate.retrieval[0].data").startswith("evaluate.retrieval[0].data.path: ")
    assert "does not exist" in refused(data)
    assert "matches nothing" in refused(DataConfig(path=str(tmp_path / "*.tar")))


def test_a_directory_without_shards_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    assert "holds no shards" in refused(DataConfig(path=str(tmp_path)))


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("caption\n", encoding="utf-8")
    assert "holds no rows" in refused(DataConfig(path=str(tmp_path)))


def test_a_format_that_no_name_tells_is_refused_until_it_is_set(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("caption\none\n", encoding="utf-8")
    path = str(tmp_path / "data.txt")
    assert "cannot tell the format" in refused(DataConfig(path=path))
    assert captions(read(DataConfig(path=path, format="csv"), with_images=False)) == ["one"]
    assert captions(read(DataConfig(path=str(tmp_path), format="csv"), with_images=False)) == ["one"]


def test_two_formats_are_refused_until_one_is_chosen(tmp_path: Path) -> None:
    root = touch(tmp_path, "0.tar")
    write_parquet(tmp_path / "0.parquet", {"caption": ["of the table"]})
    (tmp_path / "0_stats.json").write_text("{}", encoding="utf-8")
    assert "more than one format (parquet, webdataset); set data.format" in refused(DataConfig(path=root))
    assert captions(read(DataConfig(path=root, format="webdataset"))) == ["one"]
    assert captions(read(DataConfig(path=root, format="parquet"))) == ["of the table"]


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
@pytest.mark.parametrize("key", ["caption_column", "image_column", "id_column"])
def test_a_configured_column_that_is_not_there_is_refused_with_those_that_are(
    kind: str, key: str, tmp_path: Path
) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        write_parquet(path, {"caption": ["one"], "url": ["u"]})
    else:
        write_table(path, kind, ["one"])
    message = refused(DataConfig(path=str(path)).model_copy(update={key: "nosuch"}))
    assert message.startswith(f"data.{key}: ")
    assert "no column 'nosuch'; it has caption, url" in message


def test_more_names_than_columns_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("one\tu1\n", encoding="utf-8")
    message = refused(DataConfig(path=str(tmp_path), columns=["caption", "url", "more"]))
    assert "2 columns in its first row, 3 are named" in message


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(codecs.BOM_UTF8 + b"caption,url\na boat,http://x/1\n")
    data = DataConfig(path=str(path))
    (shard,) = list_shards(data)
    assert [(sample.id, sample.caption) for sample in read_samples(shard, data, False)] == [("http://x/1", "a boat")]
