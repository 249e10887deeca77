"""Rewrites come in and go out unchanged, and whatever does not fit together is refused or counted by name."""

import csv
import io
import json
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import pyarrow.parquet as pq
import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from laclip_ray import storage
from laclip_ray.config import Experiment, ExportTarget, parse_experiment, with_overrides
from laclip_ray.data.records import DUPLICATE_ID, Sample, hash_caption
from laclip_ray.data.shards import list_shards, read_samples
from laclip_ray.errors import IncompleteError, UserError
from laclip_ray.rewriting import export
from laclip_ray.rewriting.export import export_rewrites, text_files
from laclip_ray.rewriting.gate import Rejection
from laclip_ray.rewriting.import_texts import CAPTION_DIFFERS, NOT_IN_IMPORT, ImportedTexts, import_rewrites
from laclip_ray.rewriting.recipe import gate_fingerprint
from laclip_ray.rewriting.sets import SetSelection, committed_sets
from laclip_ray.rewriting.store import RewriteSet
from tests.unit.conftest import picture, write_tar

TARGETS = get_args(ExportTarget)

OPEN_GATE = {
    "min_words": 0,
    "max_context_tokens": None,
    "drop_truncated": False,
    "drop_copies": False,
    "drop_prompt_echo": False,
    "drop_repeats": False,
    "drop_chat_phrases": False,
    "drop_wrong_script": False,
    "drop_lost_numbers": False,
    "drop_changed_placeholders": False,
    "max_repeated_phrases": 0,
    "min_shared_words": 0,
}
"""Only empty rewrites are refused."""

Rows = Sequence[tuple[str, str]]
"""(id, caption)"""

ROWS: Rows = [(f"train/{n}.jpg", f"caption, number {n}") for n in range(5)]
Accepted = dict[tuple[str, str], list[str]]


def jsonl_experiment(directory: Path, rows: Rows, rows_per_shard: int = 2, **gate: Any) -> Experiment:
    data = directory / "data.jsonl"
    data.parent.mkdir(parents=True, exist_ok=True)
    data.write_text("".join(json.dumps({"path": path, "caption": caption}) + "\n" for path, caption in rows))
    return experiment_of(
        directory, {"path": str(data), "image_column": "path", "max_rows_per_shard": rows_per_shard}, **gate
    )


def experiment_of(directory: Path, data: Mapping[str, Any], **gate: Any) -> Experiment:
    return parse_experiment(
        {
            "name": "test",
            "output": str(directory / "out"),
            "data": data,
            "rewrite": {"gate": {**OPEN_GATE, **gate}},
        }
    )


def write_csv(path: Path, rows: Sequence[Sequence[str]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return str(path)


def write_lines(path: Path, lines: Sequence[str]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return str(path)


def samples_of(experiment: Experiment) -> list[Sample]:
    return [
        sample
        for shard in list_shards(experiment.data)
        for sample in read_samples(shard, experiment.data, with_images=False)
    ]


def reading(experiment: Experiment, imported: ImportedTexts) -> Experiment:
    """The experiment as training reads the imported sets."""
    return with_overrides(experiment, {"text.rewrites": list(imported.locations.values())})


def accepted_by_shard(experiment: Experiment) -> dict[str, list[Accepted]]:
    found: dict[str, list[Accepted]] = {}
    for each in committed_sets(SetSelection.of(experiment)).sets:
        for shard in list_shards(experiment.data):
            part = each.accepted(shard.name)
            assert part is not None
            found.setdefault(each.name, []).append(part)
    return found


def accepted_by_set(experiment: Experiment) -> dict[str, Accepted]:
    """For ids that are in one shard only."""
    return {
        name: {key: texts for part in parts for key, texts in part.items()}
        for name, parts in accepted_by_shard(experiment).items()
    }


def outcomes(experiment: Experiment, location: str) -> dict[str, list[str | None]]:
    """By id the reasons of a set's draws."""
    rewrite_set = RewriteSet(location, gate_fingerprint(experiment.rewrite.gate))
    found: dict[str, list[str | None]] = {}
    for shard, revision in rewrite_set.committed_revisions().items():
        for row in rewrite_set.read(shard, revision).to_pylist():
            found.setdefault(row["id"], []).append(row["reason"])
    return found


def files_below(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())


# Import


def test_the_authors_layout_becomes_sets_that_training_reads(tmp_path: Path) -> None:
    # A CSV of path, caption and URL without a header (CC3M's), which is the dataset at the same time.
    captions = write_csv(tmp_path / "cc3m_original.csv", [(*row, f"http://host/{row[0]}") for row in ROWS])
    texts = [
        write_lines(tmp_path / f"cc3m_{source}.txt", [f"{source} says {caption}" for _, caption in ROWS])
        for source in ("chatgpt", "human")
    ]
    data = {"path": captions, "columns": ["path", "caption", "url"], "image_column": "path", "max_rows_per_shard": 3}
    experiment = experiment_of(tmp_path, data)
    imported = import_rewrites(experiment, captions, texts)
    assert (imported.commits, imported.unused_lines, imported.lines) == (4, 0, 5)
    assert accepted_by_set(reading(experiment, imported)) == {
        f"cc3m_{source}": {(path, hash_caption(caption)): [f"{source} says {caption}"] for path, caption in ROWS}
        for source in ("chatgpt", "human")
    }
    lineage = committed_sets(SetSelection.of(reading(experiment, imported))).lineage()
    recipes = [storage.read_json(f"{location}/recipe.json") for location in imported.locations.values()]
    assert [each["fingerprint"] for each in lineage] == [each["fingerprint"] for each in recipes]
    assert recipes[0]["recipe"]["imported_from"] == ["cc3m_chatgpt.txt"]
    assert recipes[0]["recipe"]["lines"] == 5


def test_lines_in_another_order_and_paths_of_tar_members_are_joined_by_id(tmp_path: Path) -> None:
    for start in (0, 3):
        members = [
            (f"train/{n}.{extension}", content)
            for n in range(start, start + 3)
            for extension, content in (("jpg", b"?"), ("txt", f"caption  {n}".encode()))
        ]
        write_tar(tmp_path / "data" / f"{start}.tar", members)
    rows = [(f"train/{n}.jpg", f"caption {n}") for n in (4, 1, 5, 0, 3, 2)]  # other white space than in the tars
    experiment = experiment_of(tmp_path, {"path": str(tmp_path / "data")})
    imported = import_rewrites(
        experiment,
        write_csv(tmp_path / "c.csv", rows),
        [write_lines(tmp_path / "human.txt", [f"rewrite of {path}" for path, _ in rows])],
    )
    assert accepted_by_set(reading(experiment, imported)) == {
        "human": {(f"train/{n}", hash_caption(f"caption  {n}")): [f"rewrite of train/{n}.jpg"] for n in range(6)}
    }


def test_the_fields_of_id_and_caption_can_be_others(tmp_path: Path) -> None:
    experiment = jsonl_experiment(tmp_path, ROWS)
    captions = write_csv(tmp_path / "c.tsv.csv", [("url", caption, path) for path, caption in ROWS])
    texts = [write_lines(tmp_path / "a.txt", [f"new {n}" for n in range(5)])]
    imported = import_rewrites(experiment, captions, texts, id_field=3)
    assert imported.unused_lines == 0
    with pytest.raises(UserError, match="3 fields; --id-field 4 and --caption-field 2"):
        import_rewrites(experiment, captions, texts, id_field=4)


@pytest.mark.parametrize("lines", [4, 6, 0])
def test_a_wrong_count_of_lines_is_refused_with_both_counts_and_nothing_is_written(tmp_path: Path, lines: int) -> None:
    experiment = jsonl_experiment(tmp_path, ROWS)
    good = write_lines(tmp_path / "good.txt", ["a rewrite"] * 5)
    bad = write_lines(tmp_path / "bad.txt", ["a rewrite"] * lines)
    captions = write_csv(tmp_path / "captions.csv", ROWS)
    with pytest.raises(UserError, match=rf"bad\.txt has {lines} lines, but .*captions\.csv has 5 rows"):
        import_rewrites(experiment, captions, [good, bad])
    assert not (tmp_path / "out").exists()


def test_a_header_is_left_out_where_it_is_said_or_where_its_row_has_no_image_path(tmp_path: Path) -> None:
    texts = [write_lines(tmp_path / "human.txt", [f"rewrite {n}" for n in range(5)])]
    images, urls = ROWS, [(f"http://host/{n}", f"caption {n}") for n in range(5)]
    for name, rows, header in (("images", images, False), ("urls", urls, True)):
        experiment = jsonl_experiment(tmp_path / name, rows)
        captions = write_csv(tmp_path / f"{name}.csv", [("path", "title"), *rows])
        imported = import_rewrites(experiment, captions, texts, header=header)
        assert (imported.lines, imported.unused_lines) == (5, 0)
        (found,) = accepted_by_set(reading(experiment, imported)).values()
        assert list(found.values()) == [[f"rewrite {n}"] for n in range(5)]
    with pytest.raises(UserError, match=r"5 lines, but .* has 6 rows .0 of them with an image's path.*--header"):
        import_rewrites(experiment, captions, texts)


def test_what_has_no_counterpart_is_counted_and_named_on_both_sides(tmp_path: Path) -> None:
    experiment = jsonl_experiment(tmp_path, [*ROWS, ("only/data.jpg", "only in the data"), ("none.jpg", " ")])
    rows = [("only/csv.jpg", "x"), *ROWS[1:], (ROWS[0][0], "an edited caption"), ("none.jpg", " ")]
    texts = [write_lines(tmp_path / "human.txt", [f"rewrite {n}" for n in range(7)])]
    imported = import_rewrites(experiment, write_csv(tmp_path / "c.csv", rows), texts)
    assert (imported.unused_lines, imported.unused_names) == (2, ["only/csv.jpg", ROWS[0][0]])
    assert outcomes(experiment, imported.locations["human"]) == {
        **{path: [None] for path, _ in ROWS[1:]},
        ROWS[0][0]: [CAPTION_DIFFERS],
        "only/data.jpg": [NOT_IN_IMPORT],
        "none.jpg": ["caption_empty"],
    }
    counts = imported.statistics["human"]
    assert (counts.captions, counts.accepted, counts.captions_without_rewrite) == (7, 4, 3)
    assert counts.unfilled == {CAPTION_DIFFERS: 1, NOT_IN_IMPORT: 1, "caption_empty": 1}


def test_files_of_another_dataset_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    experiment = jsonl_experiment(tmp_path, ROWS)
    rows = [(f"elsewhere/{n}.jpg", f"caption {n}") for n in range(3)]
    with pytest.raises(UserError, match=r"none of the 3 rows .*'elsewhere/0.jpg', in the data 'train/0.jpg'"):
        import_rewrites(
            experiment, write_csv(tmp_path / "c.csv", rows), [write_lines(tmp_path / "human.txt", ["a"] * 3)]
        )
    assert not (tmp_path / "out").exists()


def test_equal_ids_and_captions_get_their_own_lines_in_order(tmp_path: Path) -> None:
    rows = [("a.jpg", "same"), ("a.jpg", "same"), ("b.jpg", "b"), ("a.jpg", "same"), ("a.jpg", "other")]
    experiment = jsonl_experiment(tmp_path, rows, rows_per_shard=3)
    problems = [(), (DUPLICATE_ID,), (), (), (DUPLICATE_ID,)]
    assert [sample.problems for sample in samples_of(experiment)] == problems
    texts = [write_lines(tmp_path / "human.txt", ["first", "second", "third", "fourth", "fifth"])]
    imported = import_rewrites(experiment, write_csv(tmp_path / "c.csv", rows), texts)
    rewrite_set = committed_sets(SetSelection.of(reading(experiment, imported))).sets[0]
    by_shard = [rewrite_set.accepted(shard.name) or {} for shard in list_shards(experiment.data)]
    assert [texts for accepted in by_shard for texts in accepted.values()] == [
        ["first"],
        ["second"],
        ["third"],
        ["fourth"],
        ["fifth"],
    ]


def test_the_gate_judges_imported_rewrites(tmp_path: Path) -> None:
    experiment = jsonl_experiment(tmp_path, ROWS, min_words=2, drop_copies=True, drop_prompt_echo=True)
    lines = ["two words", "", "one", "Caption number 3", "Write image captions differently, two words"]
    imported = import_rewrites(
        experiment, write_csv(tmp_path / "c.csv", ROWS), [write_lines(tmp_path / "human.txt", lines)]
    )
    reasons = [reason for reasons in outcomes(experiment, imported.locations["human"]).values() for reason in reasons]
    assert reasons == [None, Rejection.EMPTY, Rejection.TOO_SHORT, Rejection.COPY_OF_CAPTION, Rejection.PROMPT_ECHO]


def test_an_import_is_continued_and_judged_again_but_never_written_twice(tmp_path: Path) -> None:
    experiment = jsonl_experiment(tmp_path, ROWS)
    captions = write_csv(tmp_path / "c.csv", ROWS)
    texts = [write_lines(tmp_path / "human.txt", [f"rewrite {n}" for n in range(5)])]
    first = import_rewrites(experiment, captions, texts)
    before = accepted_by_set(reading(experiment, first))
    location = Path(first.locations["human"])
    stamps = {path: path.stat().st_mtime_ns for path in location.rglob("*.parquet")}
    verdicts, draws = (sorted((location / kind).rglob("*.parquet")) for kind in ("verdicts", "draws"))
    verdicts[0].unlink()
    verdicts[1].unlink()
    draws[1].unlink()
    second = import_rewrites(experiment, captions, texts)
    assert (second.commits, second.commits_before) == (2, 1)
    assert accepted_by_set(reading(experiment, second)) == before
    assert draws[0].stat().st_mtime_ns == stamps[draws[0]]
    stricter = with_overrides(experiment, {"rewrite.gate.min_words": 3})
    assert import_rewrites(stricter, captions, texts).statistics["human"].rejected == {Rejection.TOO_SHORT: 5}
    assert draws[0].stat().st_mtime_ns == stamps[draws[0]]


def test_shards_whose_rows_changed_are_imported_anew_and_others_are_left(tmp_path: Path) -> None:
    experiment = jsonl_experiment(tmp_path, ROWS)
    captions = write_csv(tmp_path / "c.csv", ROWS)
    texts = [write_lines(tmp_path / "human.txt", [f"rewrite {n}" for n in range(5)])]
    import_rewrites(experiment, captions, texts)
    changed = jsonl_experiment(tmp_path, [ROWS[1], ROWS[0], *ROWS[2:]])
    again = import_rewrites(changed, captions, texts)
    assert (again.commits, again.commits_before) == (1, 2)
    rewrite_set = RewriteSet(again.locations["human"], gate_fingerprint(changed.rewrite.gate))
    assert sorted(rewrite_set.committed_revisions().values()) == [0, 0, 1]
    (found,) = accepted_by_set(reading(changed, again)).values()
    assert found == {(path, hash_caption(caption)): [f"rewrite {n}"] for n, (path, caption) in enumerate(ROWS)}


def test_other_texts_do_not_go_into_a_set_that_is_there(tmp_path: Path) -> None:
    experiment = jsonl_experiment(tmp_path, ROWS)
    captions = write_csv(tmp_path / "c.csv", ROWS)
    import_rewrites(experiment, captions, [write_lines(tmp_path / "human.txt", ["text"] * 5)])
    with pytest.raises(UserError, match=r"another rewrite set .digest differ"):
        import_rewrites(experiment, captions, [write_lines(tmp_path / "human.txt", ["other"] * 5)])


def test_numbered_files_are_one_set_and_names_can_be_given(tmp_path: Path) -> None:
    experiment = jsonl_experiment(tmp_path, ROWS)
    captions = write_csv(tmp_path / "c.csv", ROWS)
    second, first = (write_lines(tmp_path / f"human.{n}.txt", [f"draw {n} of {i}" for i in range(5)]) for n in (1, 0))
    odd = write_lines(tmp_path / "odd name.txt", ["text"] * 5)
    imported = import_rewrites(experiment, captions, [second, odd, first], names=["people", "odd"])
    found = accepted_by_set(reading(experiment, imported))
    assert list(found["people"].values()) == [[f"draw 0 of {i}", f"draw 1 of {i}"] for i in range(5)]
    assert list(found["odd"].values()) == [["text"]] * 5
    with pytest.raises(UserError, match="give another by --name"):
        import_rewrites(experiment, captions, [odd])
    with pytest.raises(UserError, match=r"there is only \[1\]"):
        import_rewrites(experiment, captions, [second])
    with pytest.raises(UserError, match="1 names for 2 sets"):
        import_rewrites(experiment, captions, [odd, first], names=["one"])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    experiment = jsonl_experiment(tmp_path, ROWS)
    captions = write_csv(tmp_path / "c.csv", ROWS)
    with pytest.raises(UserError, match=r"there is no text file .*absent\.txt"):
        import_rewrites(experiment, captions, [str(tmp_path / "absent.txt")])
    with pytest.raises(UserError, match=r"there is no file .*absent\.csv"):
        import_rewrites(experiment, str(tmp_path / "absent.csv"), [captions])


# Round trips

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(
    ["", " ", '"quoted", with a comma', "a\rb", "\ufeffmarked", "two\u2028lines", "a\x00b", "'", '""', "it's 5 o'clock"]
)


@st.composite
def datasets(draw: st.DrawFn) -> tuple[Rows, list[list[str]]]:
    captions = draw(st.lists(TEXTS, min_size=1, max_size=7))
    ids = draw(st.lists(st.sampled_from(["a.jpg", "b.jpg", 'c,"d".png', "é.jpg"]), min_size=7, max_size=7))
    lines = st.lists(TEXTS.map(lambda text: text.replace("\n", " ")), min_size=len(captions), max_size=len(captions))
    return list(zip(ids, captions, strict=False)), [draw(lines) for _ in range(3)]


@settings(max_examples=40)
@given(dataset=datasets(), strict=st.booleans())
def test_import_export_import_gives_equal_rewrites(dataset: tuple[Rows, list[list[str]]], strict: bool) -> None:
    rows, lines = dataset
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        gate = {"min_words": 2, "drop_repeats": True, "drop_copies": True} if strict else {}
        experiment = jsonl_experiment(directory, rows, rows_per_shard=3, **gate)
        files = [
            write_lines(directory / f, each) for f, each in zip(("a.0.txt", "a.1.txt", "b.txt"), lines, strict=True)
        ]
        captions = write_csv(directory / "captions.csv", rows)
        first = import_rewrites(experiment, captions, files)
        exported = export_rewrites(reading(experiment, first), str(directory / "export"), "text")
        assert sorted(files_below(directory / "export")) == ["a.0.txt", "a.1.txt", "b.txt", "captions.csv"]
        for file in exported.files:
            assert Path(file).read_bytes().count(b"\n") == len(rows)
        elsewhere = with_overrides(experiment, {"output": str(directory / "again")})
        found_again = import_rewrites(
            elsewhere,
            str(directory / "export" / "captions.csv"),
            [str(directory / "export" / file) for file in ("a.0.txt", "a.1.txt", "b.txt")],
        )
        found = accepted_by_shard(reading(experiment, first))
        assert accepted_by_shard(reading(elsewhere, found_again)) == found
        counts = {name: sum(len(texts) for part in parts for texts in part.values()) for name, parts in found.items()}
        assert counts == exported.sets
        assert found_again.unused_lines == 0


# Export


@pytest.fixture
def tars(tmp_path: Path) -> Experiment:
    """Two tars with two imported sets; the second has two rewrites a caption, some of which are missing."""
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


def test_the_text_export_is_aligned_with_empty_lines_for_what_is_missing(tars: Experiment, tmp_path: Path) -> None:
    export_rewrites(tars, str(tmp_path / "texts"), "text")
    read = {name: (tmp_path / "texts" / name).read_text().splitlines() for name in files_below(tmp_path / "texts")}
    assert list(csv.reader(read["captions.csv"])) == [[f"{n:04}", f"caption {n}, ünïcode"] for n in range(6)]
    assert read["plain.txt"] == [f"plain {n}" for n in range(6)]
    first, second = read["double.0.txt"], read["double.1.txt"]
    assert [[text for text in pair if text] for pair in zip(first, second, strict=True)] == [
        each["double"] for each in EXPECTED.values()
    ]


def test_files_of_a_set_whose_name_ends_with_a_number_are_always_numbered() -> None:
    assert text_files("human", 1) == ["human.txt"]
    assert text_files("human.1", 1) == ["human.1.0.txt"]
    assert text_files("human", 2) == ["human.0.txt", "human.1.txt"]


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
    found = {each["__key__"]: each for each in webdataset.WebDataset(urls, shardshuffle=False)}
    for key, expected in EXPECTED.items():
        fields = json.loads(found[key]["json"])
        texts = [fields.pop(name) for name in exported.json_keys if name in fields]
        assert texts == [f"caption {int(key)}, ünïcode", *expected["plain"], *expected["double"]]
        number = int(key)
        assert fields == ({"url": f"http://host/{number}", "caption": "not this"} if number % 2 else {})


def test_a_tar_that_ends_in_the_middle_is_copied_as_far_as_it_goes_and_named(tmp_path: Path) -> None:
    members = [(f"{n}.{kind}", b"text %d" % n) for n in range(3) for kind in ("jpg", "txt")]
    path = write_tar(tmp_path / "data" / "cut.tar", members)
    path.write_bytes(path.read_bytes()[: 5 * 1024])
    experiment = experiment_of(tmp_path, {"path": str(tmp_path / "data")})
    captions = write_csv(tmp_path / "c.csv", [(f"{n}.jpg", f"text {n}") for n in range(3)])
    imported = import_rewrites(experiment, captions, [write_lines(tmp_path / "human.txt", ["a", "b", "c"])])
    exported = export_rewrites(reading(experiment, imported), str(tmp_path / "tars"), "webdataset")
    assert exported.truncated == ["cut.tar"]
    copied = experiment_of(tmp_path, {"path": str(tmp_path / "tars")})
    assert samples_of(copied) == samples_of(experiment)[:-1]


def test_json_members_that_hold_no_object_are_replaced_and_counted(tmp_path: Path) -> None:
    members = [("0.txt", b"text 0"), ("0.json", b"[1]"), ("1.txt", b"text 1"), ("1.json", b'{"rewrite_human": "old"}')]
    write_tar(tmp_path / "data" / "0.tar", members)
    experiment = experiment_of(tmp_path, {"path": str(tmp_path / "data")})
    captions = write_csv(tmp_path / "c.csv", [(f"{n}.jpg", f"text {n}") for n in range(2)])
    imported = import_rewrites(experiment, captions, [write_lines(tmp_path / "human.txt", ["new", ""])])
    exported = export_rewrites(reading(experiment, imported), str(tmp_path / "tars"), "webdataset")
    assert exported.json_replaced == 1
    found = [json.loads(each["json"]) for each in webdataset.WebDataset(exported.files, shardshuffle=False)]
    # What an earlier export wrote does not stay beside what there is now.
    assert found == [{"original_caption": "text 0", "rewrite_human": "new"}, {"original_caption": "text 1"}]


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_written_over(tars: Experiment, tmp_path: Path, target: ExportTarget) -> None:
    output = tmp_path / "there"
    export_rewrites(tars, str(output), target)
    before = {path: path.read_bytes() for path in [output, *output.rglob("*")] if path.is_file()}
    with pytest.raises(UserError, match="there exists already"):
        export_rewrites(tars, str(output), target)
    assert {path: path.read_bytes() for path in [output, *output.rglob("*")] if path.is_file()} == before


@pytest.mark.parametrize("target", TARGETS)
def test_an_export_that_fails_leaves_no_part_of_a_file(
    tars: Experiment, tmp_path: Path, target: ExportTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(export, "_texts_of" if target == "webdataset" else "rows_changed", fail)
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
    assert [storage.read_bytes(each) for each in remote] == [path.read_bytes() for path in local]


def test_imports_come_from_urls(tmp_path: Path) -> None:
    url = f"memory://{uuid.uuid4().hex}"
    storage.write_bytes(f"{url}/c.csv", b"a.jpg,caption a\nb.jpg,caption b\n")
    storage.write_bytes(f"{url}/human.txt", b"\xef\xbb\xbfrewrite a\r\nrewrite b")
    experiment = jsonl_experiment(tmp_path, [("b.jpg", "caption b"), ("a.jpg", "caption a")])
    experiment = with_overrides(experiment, {"rewrite.output": f"{url}/out"})
    imported = import_rewrites(experiment, f"{url}/c.csv", [f"{url}/human.txt"])
    (found,) = accepted_by_set(reading(experiment, imported)).values()
    assert list(found.values()) == [["rewrite b"], ["rewrite a"]]


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
def test_rows_that_changed_since_are_caught(tars: Experiment, tmp_path: Path, target: ExportTarget) -> None:
    members = [(f"{n:04}.txt", f"caption {n}{', ünïcode' if n else ' edited'}".encode()) for n in range(3)]
    write_tar(tmp_path / "data" / "part" / "0.tar", members)
    output = tmp_path / "export"
    with pytest.raises(IncompleteError, match=r"rows of 1 shards have changed .*part/0\.tar"):
        export_rewrites(tars, str(output), target)
    assert not output.exists()
    exported = export_rewrites(tars, str(output), target, partial=True)
    assert (exported.changed, exported.changed_samples) == (["part/0.tar"], 1)
    assert (exported.samples, exported.samples_without, exported.sets["plain"]) == (6, 1, 5)


def test_rows_that_changed_in_a_file_that_looks_the_same_are_caught(
    tars: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data" / "part" / "0.tar"
    identity = storage.identity(str(path))
    path.write_bytes(path.read_bytes().replace(b"caption 1", b"caption X"))
    monkeypatch.setattr(storage, "identity", lambda url: identity if url.endswith("0.tar") else "other")
    with pytest.raises(IncompleteError, match=r"rows of 1 shards have changed .*part/0\.tar"):
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
    texts = [write_lines(tmp_path / "human.txt", ["text"] * 5)]
    imported = import_rewrites(experiment, write_csv(tmp_path / "c.csv", ROWS), texts)
    with pytest.raises(UserError, match="WebDataset tars only, not from jsonl"):
        export_rewrites(reading(experiment, imported), str(tmp_path / "export"), "webdataset")


def test_a_set_cannot_be_a_column_that_is_taken(tmp_path: Path) -> None:
    experiment = jsonl_experiment(tmp_path, ROWS)
    texts = [write_lines(tmp_path / "caption.txt", ["text"] * 5)]
    imported = import_rewrites(experiment, write_csv(tmp_path / "c.csv", ROWS), texts)
    with pytest.raises(UserError, match="'caption' cannot be a column"):
        export_rewrites(reading(experiment, imported), str(tmp_path / "export.parquet"), "parquet")


def test_captions_of_several_lines_are_exported_in_one_and_found_again(tmp_path: Path) -> None:
    rows = [("a.jpg", "two\r\nlines"), ("b.jpg", "one")]
    experiment = jsonl_experiment(tmp_path, rows)
    texts = [write_lines(tmp_path / "human.txt", ["rewrite a", "rewrite b"])]
    imported = import_rewrites(experiment, write_csv(tmp_path / "c.csv", rows), texts)
    export_rewrites(reading(experiment, imported), str(tmp_path / "export"), "text")
    assert (tmp_path / "export" / "captions.csv").read_bytes() == b"a.jpg,two lines\nb.jpg,one\n"
    elsewhere = with_overrides(experiment, {"output": str(tmp_path / "again")})
    captions, human = (str(tmp_path / "export" / name) for name in ("captions.csv", "human.txt"))
    again = import_rewrites(elsewhere, captions, [human])
    assert accepted_by_set(reading(elsewhere, again)) == accepted_by_set(reading(experiment, imported))


def test_the_csv_is_what_pythons_reader_reads(tmp_path: Path) -> None:
    rows = [("a,b.jpg", 'say "hi", twice'), ("c.jpg", "it's")]
    experiment = jsonl_experiment(tmp_path, rows)
    texts = [write_lines(tmp_path / "human.txt", ["x", "y"])]
    imported = import_rewrites(experiment, write_csv(tmp_path / "c.csv", rows), texts)
    export_rewrites(reading(experiment, imported), str(tmp_path / "export"), "text")
    text = (tmp_path / "export" / "captions.csv").read_text()
    assert [tuple(row) for row in csv.reader(io.StringIO(text))] == rows
