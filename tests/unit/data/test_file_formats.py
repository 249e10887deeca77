"""Files are data by their names, and tables that describe tars are left out."""

import pytest

from laclip_ray.config import DataConfig
from laclip_ray.data.data_files import DataFile
from laclip_ray.data.file_formats import choose_files, kind_of
from laclip_ray.errors import UserError
from laclip_ray.tally import Tally
from tests.cases import case

SECTION = "Reading data"


def choose(
    *names: str, data_format: str = "auto", named: tuple[str, ...] = (), image_column: str | None = None
) -> tuple[list[str], str, dict[str, int]]:
    """The chosen names, the format, and what is left out."""
    files = [DataFile(f"/d/{name}", "/d", name, {}, is_named=name in named) for name in (*names, *named)]
    left_out = Tally()
    config = DataConfig.model_validate({"path": "/d", "format": data_format, "image_column": image_column})
    chosen, file_format = choose_files({"/d": files}, config, "data", left_out)
    return [file.name for file in chosen], file_format, dict(left_out.counts)


def refused(*names: str, data_format: str = "auto", named: tuple[str, ...] = ()) -> str:
    with pytest.raises(UserError) as caught:
        choose(*names, data_format=data_format, named=named)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "data_format"),
    [
        ("a.tar", "webdataset"), ("a.TAR", "webdataset"), ("a.tar.gz", "webdataset"), ("a.tgz", "webdataset"),
        ("a.tar.bz2", "webdataset"), ("a.tar.xz", "webdataset"), ("a.tar.zst", "webdataset"), ("a.parquet", "parquet"),
        ("a.snappy.parquet", "parquet"), ("a.csv", "csv"), ("a.tsv", "tsv"), ("a.jsonl", "jsonl"),
        ("a.ndjson", "jsonl"), ("a.json", None), ("a.csv.gz", None), ("a.tar.txt", None), ("a", None), ("tar", None),
    ],
)  # fmt: skip
def test_the_name_tells_the_format(name: str, data_format: str | None) -> None:
    assert kind_of(f"/d/{name}").format == data_format


@case(SECTION, "an img2dataset folder: tars beside .parquet and _stats.json", "the tars are read; the rest is named")
def test_tables_beside_tars_describe_them() -> None:
    names = [f"{number:05d}{suffix}" for number in range(2) for suffix in (".tar", ".parquet", "_stats.json")]
    chosen, data_format, left_out = choose(*names)
    assert (chosen, data_format) == (["00000.tar", "00001.tar"], "webdataset")
    assert left_out == {"beside_tar .parquet": 2, "statistics .json": 2}
    assert choose(*names, data_format="parquet")[0] == ["00000.parquet", "00001.parquet"]
    assert choose(*names, data_format="webdataset")[0] == ["00000.tar", "00001.tar"]


def test_pictures_that_rows_of_a_table_name_are_not_left_out() -> None:
    names = ("a.csv", "1.jpg", "2.PNG", "notes.md")
    assert choose(*names, image_column="image")[2] == {"no_data .md": 1}
    assert choose(*names)[2] == {"no_data .jpg": 1, "no_data .png": 1, "no_data .md": 1}


@pytest.mark.parametrize("names", [("0.tar", "1.parquet"), ("0.tar", "0.parquet", "1.parquet"), ("a.csv", "a.jsonl")])
@case(SECTION, "two formats in a directory", "refused: set data.format", exit_code=2)
def test_other_mixtures_are_refused_until_a_format_is_set(names: tuple[str, ...]) -> None:
    message = refused(*names)
    assert "more than one format" in message
    assert "set data.format" in message


def test_a_table_that_a_path_names_is_not_left_out() -> None:
    assert "more than one format" in refused("0.tar", named=("0.parquet",))


@case(SECTION, "compressed tables beside plain ones", "left out, counted, named", counted_as="compressed_table")
def test_compressed_tables_are_left_out_and_counted_by_extension() -> None:
    chosen, _, left_out = choose("a.csv", "b.csv.gz", "c.csv.zst", "d.csv.gz", "e.json.gz", "f.gz")
    assert chosen == ["a.csv"]
    assert left_out == {
        "compressed_table .csv.gz": 2,
        "compressed_table .csv.zst": 1,
        "compressed_table .json.gz": 1,
        "no_data .gz": 1,
    }


@pytest.mark.parametrize("data_format", ["auto", "csv"])
@case(SECTION, "only compressed tables", "refused: unpack them", exit_code=2)
def test_only_compressed_tables_are_refused(data_format: str) -> None:
    assert "unpack compressed tables" in refused("a.csv.gz", "b.csv.gz", data_format=data_format)
    assert "is a compressed table; unpack it" in refused(data_format=data_format, named=("a.csv.gz",))


@case(SECTION, "a directory without data", "refused; the message names its content", exit_code=2)
def test_a_refusal_says_what_there_is() -> None:
    message = refused("a.jpg", "b.jpg", "c.txt", "README")
    assert "holds no shards (.tar, .parquet, .csv, .tsv, .jsonl, .ndjson)" in message
    assert "it holds 2 .jpg, 1 .txt, 1 without an extension" in message
    assert "it holds no files" in refused()


def test_a_set_format_takes_its_own_files_or_all() -> None:
    assert choose("a.csv", "b.txt", "c.parquet", data_format="csv") == (
        ["a.csv"], "csv", {"no_data .txt": 1, "other_format .parquet": 1},
    )  # fmt: skip
    assert choose("a.txt", "b.dat", data_format="csv")[0] == ["a.txt", "b.dat"]
    assert choose("a.tsv", data_format="csv")[0] == ["a.tsv"]
    assert choose(data_format="tsv", named=("a.csv", "b"))[0] == ["a.csv", "b"]
    assert "cannot tell the format" in refused(named=("b.txt",))


def test_a_file_that_occurs_twice_is_chosen_once() -> None:
    files = [DataFile("/d/x/0.tar", "/d", "x/0.tar", {}), DataFile("/d/x/0.tar", "/d/x", "0.tar", {}, is_named=True)]
    left_out = Tally()
    chosen, _ = choose_files({"/d": files[:1], "/d/x": files[1:]}, DataConfig(path="/d"), "data", left_out)
    assert [file.name for file in chosen] == ["x/0.tar"]
    assert left_out.counts == {"given_twice": 1}
