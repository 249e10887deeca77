"""Rows find the samples that they belong to by id, by caption or by file name, whatever the other two say."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laclip_ray.config import Experiment, ImportJoin
from laclip_ray.data.records import Sample
from laclip_ray.errors import UserError
from laclip_ray.rewriting.transfer.captions_table import CaptionRow
from laclip_ray.rewriting.transfer.import_texts import CaptionsFile, ImportResult, import_rewrites
from laclip_ray.rewriting.transfer.line_index import CAPTION_DIFFERS, NOT_IN_IMPORT, Keys, LineIndex
from tests.cases import case
from tests.unit.conftest import write_tar
from tests.unit.rewriting.imported import accepted_by_set, experiment_of, reading, write_csv, write_lines

JOINS: list[ImportJoin] = ["id", "caption", "basename"]
words = st.sampled_from(["a", "dog", "cat"])
captions = st.lists(words, min_size=1, max_size=3).map(" ".join)


class Rows:
    """A table of rows in memory."""

    url = "rows.csv"
    digest = ""

    def __init__(self, rows: list[tuple[str, str]]) -> None:
        self._rows = rows

    def rows(self) -> list[CaptionRow]:
        return [CaptionRow(row_id, caption, True) for row_id, caption in self._rows]


def index_of(rows: list[tuple[str, str]], join: ImportJoin) -> LineIndex:
    return LineIndex.build(Rows(rows), {"texts": len(rows)}, Keys(join, strip_extension=False))  # type: ignore[arg-type]


def samples_with(rows: list[tuple[str, str]]) -> list[Sample]:
    return [Sample(number, sample_id, caption, None) for number, (sample_id, caption) in enumerate(rows)]


@given(texts=st.lists(captions, min_size=1, max_size=12), order=st.randoms(use_true_random=False))
def test_by_caption_every_sample_gets_a_row_of_its_caption_and_rows_are_dealt_evenly(
    texts: list[str], order: "object"
) -> None:
    index = index_of([(f"{number}.jpg", text) for number, text in enumerate(texts)], "caption")
    mixed = list(texts)
    order.shuffle(mixed)  # type: ignore[attr-defined]
    lines = index.find(samples_with([(f"{number:09}", text) for number, text in enumerate(mixed)]))
    assert [texts[line] for line in lines if isinstance(line, int)] == mixed
    assert len(set(lines)) == len(texts)
    assert index.used.all()
    assert index.ambiguous_samples == sum(count for count in Counter(texts).values() if count > 1)


def test_by_caption_an_exact_caption_wins_over_one_with_other_white_space() -> None:
    index = index_of([("0", "a dog"), ("1", "a  dog"), ("2", "a cat ")], "caption")
    samples = samples_with([("x", "a  dog"), ("x", "a dog"), ("x", "a\tcat"), ("x", "A dog")])
    assert index.find(samples) == [1, 0, 2, NOT_IN_IMPORT]
    assert index.ambiguous_samples == 0


def test_more_samples_than_rows_of_a_caption_take_the_rows_in_turn() -> None:
    index = index_of([("0", "a dog"), ("1", "a dog")], "caption")
    assert index.find(samples_with([("x", "a dog")] * 5)) == [0, 1, 0, 1, 0]


@pytest.mark.parametrize(
    "sample_id", ["000000123", "00012/000000123", "https://host/other/000000123.jpg?w=640", "x/000000123.PNG"]
)
def test_by_file_name_paths_keys_and_urls_meet_and_the_caption_must_agree(sample_id: str) -> None:
    index = index_of([("train/00012/000000123.jpg", "a dog"), ("train/00012/000000124.jpg", "a dog")], "basename")
    found = index.find(samples_with([(sample_id, "a  dog"), (sample_id, "a cat"), ("125", "a dog")]))
    assert found == [0, CAPTION_DIFFERS, NOT_IN_IMPORT]


def test_by_file_name_equal_names_in_several_directories_are_told_apart_by_the_caption() -> None:
    index = index_of([("a/1.jpg", "a dog"), ("b/1.jpg", "a cat"), ("c/1.jpg", "a cat")], "basename")
    assert index.find(samples_with([("1", "a cat"), ("1", "a dog"), ("1", "a cat")])) == [1, 0, 2]
    assert (index.ambiguous_samples, index.ambiguous_names) == (2, ["1", "1"])


@settings(max_examples=50)
@given(
    rows=st.lists(st.tuples(st.sampled_from("abc"), captions), min_size=1, max_size=8),
    samples=st.lists(st.tuples(st.sampled_from("abc"), captions), max_size=8),
    join=st.sampled_from(JOINS),
)
def test_a_line_is_only_ever_given_to_a_sample_with_its_caption(
    rows: list[tuple[str, str]], samples: list[tuple[str, str]], join: ImportJoin
) -> None:
    index = index_of(rows, join)
    for (sample_id, caption), line in zip(samples, index.find(samples_with(samples)), strict=True):
        same = [row for row in rows if row[1] == caption and (join == "caption" or row[0] == sample_id)]
        assert isinstance(line, int) == bool(same)
        if isinstance(line, int):
            assert rows[line] in same
            assert index.used[line]


def tars(directory: Path, texts: list[str]) -> Experiment:
    """img2dataset's tars: keys are numbers."""
    for shard in range(0, len(texts), 3):
        members = [
            (f"{number:09}.{extension}", content)
            for number, text in list(enumerate(texts))[shard : shard + 3]
            for extension, content in (("jpg", b"?"), ("txt", text.encode()), ("json", b"{}"))
        ]
        write_tar(directory / "data" / f"{shard:05}.tar", members)
    return experiment_of(directory, {"path": str(directory / "data")})


def import_into(experiment: Experiment, captions_file: CaptionsFile, lines: list[str], directory: Path) -> ImportResult:
    return import_rewrites(experiment, captions_file, [write_lines(directory / "cc12m_human.txt", lines)])


@case(
    "Identity",
    "`rewrites import --join caption` where several rows have one caption",
    "each sample takes the next of these rows; the samples are counted, and the first are named",
    exit_code=0,
    counted_as="ambiguous_samples",
)
def test_tars_whose_keys_are_numbers_are_joined_by_caption(tmp_path: Path) -> None:
    texts = ["a dog", "a cat", "a dog", "only in the data", "two birds"]
    experiment = tars(tmp_path, texts)
    rows = [("t/9.jpg", "two  birds"), ("t/8.jpg", "a dog"), ("t/7.jpg", "a cat"), ("t/6.jpg", "gone"),
            ("t/5.jpg", "a dog")]  # fmt: skip
    captions = write_csv(tmp_path / "c.csv", rows)
    imported = import_into(experiment, CaptionsFile(captions, "caption"), [f"of {row[0]}" for row in rows], tmp_path)
    (accepted,) = accepted_by_set(reading(experiment, imported)).values()
    assert {key[0]: texts for key, texts in accepted.items() if texts} == {
        "000000000": ["of t/8.jpg"],
        "000000001": ["of t/7.jpg"],
        "000000002": ["of t/5.jpg"],
        "000000004": ["of t/9.jpg"],
    }
    assert (imported.unused_lines, imported.unused_names) == (1, ["t/6.jpg"])
    assert (imported.ambiguous_samples, imported.ambiguous_names) == (2, ["000000000", "000000002"])
    assert imported.statistics["cc12m_human"].unfilled == {NOT_IN_IMPORT: 1}


def test_a_file_of_captions_alone_is_joined_by_caption(tmp_path: Path) -> None:
    experiment = tars(tmp_path, ['a "dog", barking', "a cat\twaits", "a bird"])
    captions = write_lines(tmp_path / "redcaps.txt", ["a bird", 'a "dog", barking', "a cat\twaits"])
    file = CaptionsFile(captions, "caption", captions_only=True)
    imported = import_into(experiment, file, ["first one", "second one", "third one"], tmp_path)
    (accepted,) = accepted_by_set(reading(experiment, imported)).values()
    assert list(accepted.values()) == [["second one"], ["third one"], ["first one"]]
    with pytest.raises(UserError, match="say --join caption too"):
        import_into(experiment, CaptionsFile(captions, captions_only=True), ["a"] * 3, tmp_path)


@pytest.mark.parametrize(
    ("join", "message"),
    [
        ("id", r"an equal id and caption; the first id there is 't/0', in the data '000000000'. Choose another --join"),
        ("basename", "an equal file name and caption; the first basename there is '0', in the data '000000000'"),
        ("caption", "an equal caption; the first caption there is 'x y', in the data 'a dog'"),
    ],
)
def test_a_join_that_finds_nothing_is_refused_with_both_keys(join: ImportJoin, message: str, tmp_path: Path) -> None:
    captions = write_csv(tmp_path / "c.csv", [("t/0.jpg", "x  y")])
    with pytest.raises(UserError, match=message):
        import_into(tars(tmp_path, ["a dog"]), CaptionsFile(captions, join), ["text"], tmp_path)
    assert not (tmp_path / "out").exists()
