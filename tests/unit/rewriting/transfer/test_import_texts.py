"""Line-aligned texts become the rewrites of their samples, and lines and samples without a counterpart are counted."""

import uuid
from pathlib import Path

import pytest

from laclip_ray import storage
from laclip_ray.config import Experiment, with_overrides
from laclip_ray.data.records import DUPLICATE_ID, hash_caption
from laclip_ray.data.shards import list_shards
from laclip_ray.errors import IncompleteError, UserError
from laclip_ray.rewriting.judging.gate import Rejection
from laclip_ray.rewriting.recipe import gate_fingerprint
from laclip_ray.rewriting.storing.sets import SetSelection, committed_sets
from laclip_ray.rewriting.storing.store import RewriteSet
from laclip_ray.rewriting.transfer.import_texts import CaptionsFile, import_rewrites
from laclip_ray.rewriting.transfer.line_index import CAPTION_DIFFERS, NOT_IN_IMPORT
from tests.unit.conftest import write_tar
from tests.unit.rewriting.imported import (
    ROWS,
    accepted_by_set,
    experiment_of,
    jsonl_experiment,
    reading,
    samples_of,
    write_csv,
    write_lines,
)


def outcomes(experiment: Experiment, location: str) -> dict[str, list[str | None]]:
    """By id the reasons of a set's draws."""
    rewrite_set = RewriteSet(location, gate_fingerprint(experiment.rewrite.gate, experiment.model.name))
    reasons: dict[str, list[str | None]] = {}
    for shard, revision in rewrite_set.committed_revisions().items():
        for row in rewrite_set.read(shard, revision).to_pylist():
            reasons.setdefault(row["id"], []).append(row["reason"])
    return reasons


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
    assert [rewrite_set["fingerprint"] for rewrite_set in lineage] == [recipe["fingerprint"] for recipe in recipes]
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
    imported = import_rewrites(experiment, CaptionsFile(captions, id_field=3), texts)
    assert imported.unused_lines == 0
    with pytest.raises(UserError, match="3 fields; --id-field 4 and --caption-field 2"):
        import_rewrites(experiment, CaptionsFile(captions, id_field=4), texts)


@pytest.mark.parametrize("lines", [4, 6, 0])
def test_a_wrong_count_of_lines_is_refused_with_both_counts_and_nothing_is_written(tmp_path: Path, lines: int) -> None:
    experiment = jsonl_experiment(tmp_path, ROWS)
    good = write_lines(tmp_path / "good.txt", ["a rewrite"] * 5)
    bad = write_lines(tmp_path / "bad.txt", ["a rewrite"] * lines)
    captions = write_csv(tmp_path / "captions.csv", ROWS)
    with pytest.raises(UserError, match=rf"bad\.txt has {lines} lines, but .*captions\.csv has 5 rows"):
        import_rewrites(experiment, captions, [good, bad])
    assert not (tmp_path / "out").exists()


def test_a_header_is_skipped_on_request_or_if_its_row_has_no_image_path(tmp_path: Path) -> None:
    texts = [write_lines(tmp_path / "human.txt", [f"rewrite {n}" for n in range(5)])]
    images, urls = ROWS, [(f"http://host/{n}", f"caption {n}") for n in range(5)]
    for name, rows, header in (("images", images, False), ("urls", urls, True)):
        experiment = jsonl_experiment(tmp_path / name, rows)
        captions = write_csv(tmp_path / f"{name}.csv", [("path", "title"), *rows])
        imported = import_rewrites(experiment, CaptionsFile(captions, header=header), texts)
        assert (imported.lines, imported.unused_lines) == (5, 0)
        (accepted,) = accepted_by_set(reading(experiment, imported)).values()
        assert list(accepted.values()) == [[f"rewrite {n}"] for n in range(5)]
    with pytest.raises(UserError, match=r"5 lines, but .* has 6 rows .0 of them with an image's path.*--header"):
        import_rewrites(experiment, captions, texts)


def test_lines_and_samples_without_a_counterpart_are_counted_and_named(tmp_path: Path) -> None:
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
    rows = [("a.jpg", "same"), ("a.jpg", "same"), ("b.jpg", "blue"), ("a.jpg", "same"), ("a.jpg", "other")]
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


def test_an_import_resumes_and_judges_again_but_never_writes_twice(tmp_path: Path) -> None:
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


def test_only_shards_whose_rows_changed_are_imported_again(tmp_path: Path) -> None:
    experiment = jsonl_experiment(tmp_path, ROWS)
    captions = write_csv(tmp_path / "c.csv", ROWS)
    texts = [write_lines(tmp_path / "human.txt", [f"rewrite {n}" for n in range(5)])]
    import_rewrites(experiment, captions, texts)
    changed = jsonl_experiment(tmp_path, [ROWS[1], ROWS[0], *ROWS[2:]])
    again = import_rewrites(changed, captions, texts)
    assert (again.commits, again.commits_before) == (1, 2)
    rewrite_set = RewriteSet(again.locations["human"], gate_fingerprint(changed.rewrite.gate, changed.model.name))
    assert sorted(rewrite_set.committed_revisions().values()) == [0, 0, 1]
    (accepted,) = accepted_by_set(reading(changed, again)).values()
    assert accepted == {(path, hash_caption(caption)): [f"rewrite {n}"] for n, (path, caption) in enumerate(ROWS)}


def test_other_texts_do_not_go_into_an_existing_set(tmp_path: Path) -> None:
    experiment = jsonl_experiment(tmp_path, ROWS)
    captions = write_csv(tmp_path / "c.csv", ROWS)
    import_rewrites(experiment, captions, [write_lines(tmp_path / "human.txt", ["text"] * 5)])
    with pytest.raises(UserError, match=r"another rewrite set .digest differ"):
        import_rewrites(experiment, captions, [write_lines(tmp_path / "human.txt", ["other"] * 5)])


def test_another_join_does_not_go_into_an_existing_set(tmp_path: Path) -> None:
    experiment = jsonl_experiment(tmp_path, ROWS)
    captions, texts = write_csv(tmp_path / "c.csv", ROWS), [write_lines(tmp_path / "human.txt", ["text"] * 5)]
    import_rewrites(experiment, captions, texts)
    with pytest.raises(UserError, match=r"another rewrite set .join differ"):
        import_rewrites(experiment, CaptionsFile(captions, "caption"), texts)


def test_numbered_files_are_one_set_and_names_can_be_given(tmp_path: Path) -> None:
    experiment = jsonl_experiment(tmp_path, ROWS)
    captions = write_csv(tmp_path / "c.csv", ROWS)
    second, first = (write_lines(tmp_path / f"human.{n}.txt", [f"draw {n} of {i}" for i in range(5)]) for n in (1, 0))
    odd = write_lines(tmp_path / "odd name.txt", ["text"] * 5)
    imported = import_rewrites(experiment, captions, [second, odd, first], names=["people", "odd"])
    accepted = accepted_by_set(reading(experiment, imported))
    assert list(accepted["people"].values()) == [[f"draw 0 of {i}", f"draw 1 of {i}"] for i in range(5)]
    assert list(accepted["odd"].values()) == [["text"]] * 5
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


def test_imports_come_from_urls(tmp_path: Path) -> None:
    url = f"memory://{uuid.uuid4().hex}"
    storage.write_bytes(f"{url}/c.csv", b"a.jpg,caption a\nb.jpg,caption b\n")
    storage.write_bytes(f"{url}/human.txt", b"\xef\xbb\xbfrewrite a\r\nrewrite b")
    experiment = jsonl_experiment(tmp_path, [("b.jpg", "caption b"), ("a.jpg", "caption a")])
    experiment = with_overrides(experiment, {"rewrite.output": f"{url}/out"})
    imported = import_rewrites(experiment, f"{url}/c.csv", [f"{url}/human.txt"])
    (accepted,) = accepted_by_set(reading(experiment, imported)).values()
    assert list(accepted.values()) == [["rewrite b"], ["rewrite a"]]


def test_pictures_are_not_looked_at(tmp_path: Path) -> None:
    experiment = jsonl_experiment(tmp_path, ROWS, picture={"model": "ViT-B-32", "pretrained": "openai"})
    texts = [write_lines(tmp_path / "human.txt", ["text"] * len(ROWS))]
    message = r"^rewrite\.gate\.picture: an import does not look at pictures; import with rewrite\.gate\.picture=null$"
    with pytest.raises(UserError, match=message):
        import_rewrites(experiment, write_csv(tmp_path / "c.csv", ROWS), texts)


def test_a_shard_that_cannot_be_read_is_named_and_the_others_are_imported(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_tar(tmp_path / "data" / f"{name}.tar", [(f"{name}.jpg", b"?"), (f"{name}.txt", b"a dog")])
    (tmp_path / "data" / "b.tar").write_bytes(b"no tar" * 200)
    experiment = experiment_of(tmp_path, {"path": str(tmp_path / "data")})
    texts = [write_lines(tmp_path / "human.txt", ["the dog", "the dog"])]
    captions = write_csv(tmp_path / "c.csv", [("a.jpg", "a dog"), ("b.jpg", "a dog")])
    message = (
        r"^1 shards could not be read, all others are committed: b\.tar: .*; mend or remove them, and import again$"
    )
    with pytest.raises(IncompleteError, match=message):
        import_rewrites(experiment, captions, texts)
    location = str(tmp_path / "out" / "rewrites" / "human")
    gate = gate_fingerprint(experiment.rewrite.gate, experiment.model.name)
    assert RewriteSet(location, gate).committed_revisions() == {"a.tar": 0}
