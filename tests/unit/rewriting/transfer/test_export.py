"""An export holds what training would read, never overwrites, and is read back by import and by other tools."""

import csv
import io
import json
import tempfile
import uuid
from pathlib import Path
from typing import get_args

import pyarrow.parquet as pq
import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray import storage
from laclip_ray.config import Experiment, ExportTarget, with_overrides
from laclip_ray.data.shards import list_shards, read_samples
from laclip_ray.errors import IncompleteError, UserError
from laclip_ray.rewriting.transfer import export, export_files
from laclip_ray.rewriting.transfer.export import export_rewrites
from laclip_ray.rewriting.transfer.import_texts import import_rewrites
from tests.unit.conftest import picture, write_tar
from tests.unit.rewriting.imported import (
    ROWS,
    Rows,
    accepted_by_set,
    accepted_by_shard,
    experiment_of,
    files_below,
    jsonl_experiment,
    reading,
    samples_of,
    write_csv,
    write_lines,
)

TARGETS = get_args(ExportTarget)


@pytest.fixture
def tars(tmp_path: Path) -> Experiment:
    """Two tars with two imported sets; the second has two rewrites per caption, and some are missing."""
    jpeg = picture("JPEG")
    rows = []
    for start in (0, 3):
        members: list[tuple[str, bytes]] = []
        for n in range(start, start + 3):
            members += [(f"{n:04}.jpg", jpeg), (f"{n:04}.txt", f"caption {n}, ünïcode".encode())]
            if n % 2:
                members.append(
                    (f"{n:04}.json", json.dumps({"url": f"http://host/{n}", "caption": "not this"}).encode())
                )
            rows.append((f"{n:04}.jpg", f"caption {n}, ünïcode"))
        write_tar(tmp_path / "data" / "part" / f"{start}.tar", members)
    experiment = experiment_of(tmp_path, {"path": str(tmp_path / "data")})
    files = {
        "plain.txt": [f"plain {n}" for n in range(6)],
        "double.0.txt": [f"first {n}" if n % 2 else "" for n in range(6)],
        "double.1.txt": [f"second {n}" if n < 4 else "" for n in range(6)],
    }
    texts = [write_lines(tmp_path / name, lines) for name, lines in files.items()]
    imported = import_rewrites(experiment, write_csv(tmp_path / "captions.csv", rows), texts)
    return reading(experiment, imported)


EXPECTED = {
    f"{n:04}": {
        "plain": [f"plain {n}"],
        "double": [text for text in (f"first {n}" if n % 2 else "", f"second {n}" if n < 4 else "") if text],
    }
    for n in range(6)
}


def test_the_parquet_export_is_the_naive_join(tars: Experiment, tmp_path: Path) -> None:
    exported = export_rewrites(tars, str(tmp_path / "all.parquet"), "parquet")
    expected = [
        {
            "shard": shard.name,
            "id": sample.id,
            "caption_hash": sample.caption_hash,
            "caption": sample.caption,
            **EXPECTED[sample.id],
        }
        for shard in list_shards(tars.data)
        for sample in read_samples(shard, tars.data, with_images=False)
    ]
    assert pq.read_table(tmp_path / "all.parquet").to_pylist() == expected
    assert pq.ParquetFile(tmp_path / "all.parquet").num_row_groups == 2
    assert (exported.samples, exported.samples_without, exported.sets) == (6, 0, {"plain": 6, "double": 7})
    read = samples_of(experiment_of(tmp_path, {"path": str(tmp_path / "all.parquet"), "id_column": "id"}))
    assert [(sample.id, sample.caption) for sample in read] == [(row["id"], row["caption"]) for row in expected]


def test_the_text_export_has_empty_lines_for_missing_rewrites(tars: Experiment, tmp_path: Path) -> None:
    export_rewrites(tars, str(tmp_path / "texts"), "text")
    read = {name: (tmp_path / "texts" / name).read_text().splitlines() for name in files_below(tmp_path / "texts")}
    assert list(csv.reader(read["captions.csv"])) == [[f"{n:04}", f"caption {n}, ünïcode"] for n in range(6)]
    assert read["plain.txt"] == [f"plain {n}" for n in range(6)]
    first, second = read["double.0.txt"], read["double.1.txt"]
    assert [[text for text in pair if text] for pair in zip(first, second, strict=True)] == [
        texts["double"] for texts in EXPECTED.values()
    ]


def test_the_webdataset_export_adds_texts_and_changes_nothing_else(tars: Experiment, tmp_path: Path) -> None:
    exported = export_rewrites(tars, str(tmp_path / "tars"), "webdataset")
    assert exported.json_keys == ["original_caption", "rewrite_plain", "rewrite_double_0", "rewrite_double_1"]
    copied = with_overrides(tars, {"data.path": str(tmp_path / "tars")})
    shards = list_shards(copied.data)
    assert [shard.name for shard in shards] == [shard.name for shard in list_shards(tars.data)]
    for before, after in zip(list_shards(tars.data), shards, strict=True):
        assert list(read_samples(before, tars.data, True)) == list(read_samples(after, copied.data, True))
    # As open_clip reads: sizes.json for the number of samples, then by webdataset a json member a sample.
    assert storage.read_json(str(tmp_path / "tars" / "part" / "sizes.json")) == {"0.tar": 3, "3.tar": 3}
    urls = [str(tmp_path / "tars" / "part" / f"{start}.tar") for start in (0, 3)]
    samples = {sample["__key__"]: sample for sample in webdataset.WebDataset(urls, shardshuffle=False)}
    for key, expected in EXPECTED.items():
        fields = json.loads(samples[key]["json"])
        texts = [fields.pop(name) for name in exported.json_keys if name in fields]
        assert texts == [f"caption {int(key)}, ünïcode", *expected["plain"], *expected["double"]]
        number = int(key)
        assert fields == ({"url": f"http://host/{number}", "caption": "not this"} if number % 2 else {})


def test_the_whole_samples_of_a_truncated_tar_are_copied_and_the_tar_is_named(tmp_path: Path) -> None:
    members = [(f"{n}.{kind}", b"text %d" % n) for n in range(3) for kind in ("jpg", "txt")]
    path = write_tar(tmp_path / "data" / "cut.tar", members)
    path.write_bytes(path.read_bytes()[: 5 * 1024])
    experiment = experiment_of(tmp_path, {"path": str(tmp_path / "data")})
    captions = write_csv(tmp_path / "c.csv", [(f"{n}.jpg", f"text {n}") for n in range(3)])
    imported = import_rewrites(experiment, captions, [write_lines(tmp_path / "cleaned.txt", ["a", "b", "c"])])
    exported = export_rewrites(reading(experiment, imported), str(tmp_path / "tars"), "webdataset")
    assert exported.truncated == ["cut.tar"]
    copied = experiment_of(tmp_path, {"path": str(tmp_path / "tars")})
    assert samples_of(copied) == samples_of(experiment)[:-1]


def test_json_members_that_hold_no_object_are_replaced_and_counted(tmp_path: Path) -> None:
    members = [
        ("0.txt", b"text 0"),
        ("0.json", b"[1]"),
        ("1.txt", b"text 1"),
        ("1.json", b'{"rewrite_cleaned": "old"}'),
    ]
    write_tar(tmp_path / "data" / "0.tar", members)
    experiment = experiment_of(tmp_path, {"path": str(tmp_path / "data")})
    captions = write_csv(tmp_path / "c.csv", [(f"{n}.jpg", f"text {n}") for n in range(2)])
    imported = import_rewrites(experiment, captions, [write_lines(tmp_path / "cleaned.txt", ["new", ""])])
    exported = export_rewrites(reading(experiment, imported), str(tmp_path / "tars"), "webdataset")
    assert exported.json_replaced == 1
    written = [json.loads(sample["json"]) for sample in webdataset.WebDataset(exported.files, shardshuffle=False)]
    # The fields of an earlier export are replaced.
    assert written == [{"original_caption": "text 0", "rewrite_cleaned": "new"}, {"original_caption": "text 1"}]


@pytest.mark.parametrize("target", TARGETS)
def test_no_file_is_overwritten(tars: Experiment, tmp_path: Path, target: ExportTarget) -> None:
    output = tmp_path / "there"
    export_rewrites(tars, str(output), target)
    before = {path: path.read_bytes() for path in [output, *output.rglob("*")] if path.is_file()}
    with pytest.raises(UserError, match="there already exists and is not an empty directory"):
        export_rewrites(tars, str(output), target)
    assert {path: path.read_bytes() for path in [output, *output.rglob("*")] if path.is_file()} == before


@pytest.mark.parametrize("target", TARGETS)
def test_an_export_that_fails_leaves_no_part_of_a_file(
    tars: Experiment, tmp_path: Path, target: ExportTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no space")

    if target == "webdataset":
        monkeypatch.setattr(export_files, "_texts_of", fail)
    else:
        monkeypatch.setattr(export, "read_samples", fail)
    with pytest.raises(OSError, match="no space"):
        export_rewrites(tars, str(tmp_path / "export"), target)
    assert files_below(tmp_path / "export") == []


@pytest.mark.parametrize("target", TARGETS)
def test_exports_go_to_urls(tars: Experiment, tmp_path: Path, target: ExportTarget) -> None:
    url = f"memory://{uuid.uuid4().hex}/export"
    export_rewrites(tars, url, target)
    export_rewrites(tars, str(tmp_path / "export"), target)
    local = [tmp_path / "export"] if target == "parquet" else sorted((tmp_path / "export").rglob("*.*"))
    remote = [url] if target == "parquet" else storage.list_files(url)
    assert [storage.read_bytes(url) for url in remote] == [path.read_bytes() for path in local]


@pytest.mark.parametrize("target", TARGETS)
def test_shards_that_are_not_committed_are_refused_or_left_out(
    tars: Experiment, tmp_path: Path, target: ExportTarget
) -> None:
    location = Path((tars.text.rewrites or [])[0])
    next((location / "verdicts").rglob("3.tar.parquet")).unlink()
    output = tmp_path / "export"
    with pytest.raises(IncompleteError, match=r"1 of 2 shards are not committed by every set .part/3\.tar"):
        export_rewrites(tars, str(output), target)
    assert not output.exists()
    exported = export_rewrites(tars, str(output), target, partial=True)
    assert (exported.not_committed, exported.samples) == (["part/3.tar"], 3)


@pytest.mark.parametrize("target", TARGETS)
def test_changed_rows_are_caught(tars: Experiment, tmp_path: Path, target: ExportTarget) -> None:
    members = [(f"{n:04}.txt", f"caption {n}{', ünïcode' if n else ' edited'}".encode()) for n in range(3)]
    write_tar(tmp_path / "data" / "part" / "0.tar", members)
    output = tmp_path / "export"
    with pytest.raises(IncompleteError, match=r"captions of 1 shards have changed .*part/0\.tar"):
        export_rewrites(tars, str(output), target)
    assert not output.exists()
    exported = export_rewrites(tars, str(output), target, partial=True)
    assert (exported.changed, exported.changed_samples) == (["part/0.tar"], 1)
    assert (exported.samples, exported.samples_without, exported.sets["plain"]) == (6, 1, 5)


def test_changed_rows_in_a_file_that_looks_the_same_are_caught(
    tars: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data" / "part" / "0.tar"
    identity = storage.identity(str(path))
    path.write_bytes(path.read_bytes().replace(b"caption 1", b"caption X"))
    monkeypatch.setattr(storage, "identity", lambda url: identity if url.endswith("0.tar") else "other")
    with pytest.raises(IncompleteError, match=r"captions of 1 shards have changed .*part/0\.tar"):
        export_rewrites(tars, str(tmp_path / "export.parquet"), "parquet")
    assert not (tmp_path / "export.parquet").exists()


def test_a_copied_dataset_has_not_changed(tars: Experiment, tmp_path: Path) -> None:
    path = tmp_path / "data" / "part" / "0.tar"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    assert export_rewrites(tars, str(tmp_path / "export"), "text").changed == []


def test_a_webdataset_is_not_made_from_tables(tmp_path: Path) -> None:
    experiment = jsonl_experiment(tmp_path, ROWS)
    texts = [write_lines(tmp_path / "cleaned.txt", ["text"] * 5)]
    imported = import_rewrites(experiment, write_csv(tmp_path / "c.csv", ROWS), texts)
    with pytest.raises(UserError, match="WebDataset tars only, not from jsonl"):
        export_rewrites(reading(experiment, imported), str(tmp_path / "export"), "webdataset")


def test_a_webdataset_is_not_made_of_several_captions_for_an_image(tars: Experiment, tmp_path: Path) -> None:
    experiment = tars.model_copy(update={"data": tars.data.model_copy(update={"captions": "all"})})
    with pytest.raises(UserError, match=r"data\.captions: all gives an image several rows"):
        export_rewrites(experiment, str(tmp_path / "export"), "webdataset")


def test_a_set_cannot_be_a_column_that_is_taken(tmp_path: Path) -> None:
    experiment = jsonl_experiment(tmp_path, ROWS)
    texts = [write_lines(tmp_path / "caption.txt", ["text"] * 5)]
    imported = import_rewrites(experiment, write_csv(tmp_path / "c.csv", ROWS), texts)
    with pytest.raises(UserError, match="'caption' cannot be a column"):
        export_rewrites(reading(experiment, imported), str(tmp_path / "export.parquet"), "parquet")


def test_captions_of_several_lines_are_exported_on_one_and_imported_again(tmp_path: Path) -> None:
    rows = [("a.jpg", "two\r\nlines"), ("b.jpg", "one")]
    experiment = jsonl_experiment(tmp_path, rows)
    texts = [write_lines(tmp_path / "cleaned.txt", ["rewrite a", "rewrite b"])]
    imported = import_rewrites(experiment, write_csv(tmp_path / "c.csv", rows), texts)
    export_rewrites(reading(experiment, imported), str(tmp_path / "export"), "text")
    assert (tmp_path / "export" / "captions.csv").read_bytes() == b"a.jpg,two lines\nb.jpg,one\n"
    elsewhere = with_overrides(experiment, {"output": str(tmp_path / "again")})
    captions, cleaned = (str(tmp_path / "export" / name) for name in ("captions.csv", "cleaned.txt"))
    again = import_rewrites(elsewhere, captions, [cleaned])
    assert accepted_by_set(reading(elsewhere, again)) == accepted_by_set(reading(experiment, imported))


def test_the_csv_is_what_pythons_reader_reads(tmp_path: Path) -> None:
    rows = [("a,b.jpg", 'say "hi", twice'), ("c.jpg", "it's")]
    experiment = jsonl_experiment(tmp_path, rows)
    texts = [write_lines(tmp_path / "cleaned.txt", ["x", "y"])]
    imported = import_rewrites(experiment, write_csv(tmp_path / "c.csv", rows), texts)
    export_rewrites(reading(experiment, imported), str(tmp_path / "export"), "text")
    text = (tmp_path / "export" / "captions.csv").read_text()
    assert [tuple(row) for row in csv.reader(io.StringIO(text))] == rows


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(
    ["", " ", '"quoted", with a comma', "a\rb", "\ufeffmarked", "two\u2028lines", "a\x00b", "'", '""', "it's 5 o'clock"]
)


@st.composite
def datasets(draw: st.DrawFn) -> tuple[Rows, list[list[str]]]:
    captions = draw(st.lists(TEXTS, min_size=1, max_size=7))
    ids = draw(st.lists(st.sampled_from(["a.jpg", "b.jpg", 'c,"d".png', "é.jpg"]), min_size=7, max_size=7))
    lines = st.lists(TEXTS.map(lambda text: text.replace("\n", " ")), min_size=len(captions), max_size=len(captions))
    return list(zip(ids, captions, strict=False)), [draw(lines) for _ in range(3)]


@given(dataset=datasets(), strict=st.booleans())
def test_import_export_import_gives_equal_rewrites(dataset: tuple[Rows, list[list[str]]], strict: bool) -> None:
    rows, lines = dataset
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        gate = {"min_words": 2, "drop_repeats": True, "drop_copies": True} if strict else {}
        experiment = jsonl_experiment(directory, rows, rows_per_shard=3, **gate)
        files = [
            write_lines(directory / name, lines_of_file)
            for name, lines_of_file in zip(("a.0.txt", "a.1.txt", "b.txt"), lines, strict=True)
        ]
        captions = write_csv(directory / "captions.csv", rows)
        first = import_rewrites(experiment, captions, files)
        exported = export_rewrites(reading(experiment, first), str(directory / "export"), "text")
        assert sorted(files_below(directory / "export")) == ["a.0.txt", "a.1.txt", "b.txt", "captions.csv"]
        for file in exported.files:
            assert Path(file).read_bytes().count(b"\n") == len(rows)
        elsewhere = with_overrides(experiment, {"output": str(directory / "again")})
        imported_again = import_rewrites(
            elsewhere,
            str(directory / "export" / "captions.csv"),
            [str(directory / "export" / file) for file in ("a.0.txt", "a.1.txt", "b.txt")],
        )
        accepted = accepted_by_shard(reading(experiment, first))
        assert accepted_by_shard(reading(elsewhere, imported_again)) == accepted
        counts = {
            name: sum(len(texts) for part in parts for texts in part.values()) for name, parts in accepted.items()
        }
        assert counts == exported.sets
        assert imported_again.unused_lines == 0


def test_a_parquet_export_is_one_file(tars: Experiment, tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    with pytest.raises(
        UserError, match=rf"^{tmp_path}/export is a directory; one Parquet file is written, give its name$"
    ):
        export_rewrites(tars, str(tmp_path / "export"), "parquet")
