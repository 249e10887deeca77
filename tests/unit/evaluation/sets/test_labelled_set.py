"""Opening a set of any layout: how the layout is told, addresses of the Hub, expected counts, and failing stores."""

from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.config import LabelledConfig
from laclip_ray.endings.surroundings import explain
from laclip_ray.errors import UserError
from laclip_ray.evaluation.coverage import NoResultError
from laclip_ray.evaluation.sets.labelled_set import (
    LabelledSet,
    check_expected,
    open_labelled_set,
    read_labelled,
)
from tests.cases import case
from tests.unit.conftest import picture, write_tar
from tests.unit.evaluation.sets.examples import images_of, make_csv, make_folders, make_parquet, make_tars


def layouts_of(labelled: LabelledSet) -> set[str]:
    return {shard.layout for shards in labelled.splits.values() for shard in shards}


def test_the_files_tell_the_layout(tmp_path: Path) -> None:
    make_tars(tmp_path / "tars")
    make_folders(tmp_path / "folders", ["test/fox", "test/owl"])
    make_parquet(tmp_path / "parquet" / "test.parquet", [0, 1])
    make_csv(tmp_path / "csv" / "test.csv", [("images/a.png", "owl"), ("images/b.png", "fox")])
    for name, layout in (("tars", "webdataset"), ("folders", "folders"), ("parquet", "parquet"), ("csv", "csv")):
        config = LabelledConfig(name="animals", path=str(tmp_path / name), templates="simple")
        assert layouts_of(open_labelled_set(config)) == {layout}


def test_images_in_one_directory_beside_a_table_belong_to_the_table(tmp_path: Path) -> None:
    make_csv(tmp_path / "test.csv", [("test/a.png", "owl"), ("test/b.png", "fox")])
    config = LabelledConfig(name="animals", path=str(tmp_path), templates="simple")
    assert layouts_of(open_labelled_set(config)) == {"csv"}


@case("Evaluation", "a directory that may be of several layouts", "refused; the message names them", exit_code=2)
def test_files_of_several_layouts_are_refused_unless_one_is_set(tmp_path: Path) -> None:
    config = make_folders(tmp_path, ["test/fox", "test/owl"])
    make_csv(tmp_path / "test.csv", [("a.png", "owl"), ("b.png", "fox")])
    with pytest.raises(UserError, match=r"may be of several layouts \(csv, folders\): .*\. Set layout"):
        open_labelled_set(config)
    for layout in ("csv", "folders"):
        assert layouts_of(open_labelled_set(config.model_copy(update={"layout": layout}))) == {layout}


@case(
    "Evaluation", "a directory of no known layout", "refused; the message says what it holds and what was looked for", 2
)
@pytest.mark.parametrize("names", [["notes.md", "data.zip", "more.zip"], ["photo.jpg"], []])
def test_files_of_no_layout_are_refused(names: list[str], tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    for name in names:
        (root / name).write_bytes(picture())
    with pytest.raises(UserError) as raised:
        open_labelled_set(LabelledConfig(name="animals", path=str(root), templates="simple"))
    message = str(raised.value)
    assert message.startswith("evaluate.labelled: animals: ")
    if names != ["photo.jpg"]:
        assert "nshards.txt" in message
        assert "parquet" in message


@case("Evaluation", "a labelled set that does not exist", "refused with the path", exit_code=2)
def test_a_path_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"evaluate\.labelled\[animals\]\.path: '.*/gone' does not exist"):
        open_labelled_set(LabelledConfig(name="animals", path=str(tmp_path / "gone")))


@pytest.mark.parametrize("layout", ["folders", "parquet", "csv", "webdataset"])
def test_a_set_without_files_of_the_configured_layout_is_refused(layout: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("nothing")
    (tmp_path / "classnames.txt").write_text("a\nb\n")
    with pytest.raises(UserError, match=r"^evaluate\.labelled: animals: "):
        open_labelled_set(LabelledConfig(name="animals", path=str(tmp_path), templates="simple", layout=layout))


def test_a_set_in_a_store_is_read_as_a_local_one(tmp_path: Path) -> None:
    make_tars(tmp_path)
    store = fsspec.filesystem("memory")
    for file in tmp_path.rglob("*.*"):
        store.pipe_file(f"/tars/{file.relative_to(tmp_path)}", file.read_bytes())
    labelled = open_labelled_set(LabelledConfig(name="animals", path="memory://tars"))
    assert len(images_of(labelled)) == 6


def test_templates_and_names_that_are_not_needed_may_be_missing(tmp_path: Path) -> None:
    settings = {"train_split": "train", "linear_probe": {}, "zero_shot": False}
    config = make_tars(tmp_path, **settings)
    (tmp_path / "zeroshot_classification_templates.txt").unlink()
    write_tar(tmp_path / "train" / "0.tar", [("a.png", picture()), ("a.cls", b"1")])
    (tmp_path / "train" / "nshards.txt").write_text("1")
    assert open_labelled_set(config).templates == []
    with pytest.raises(UserError, match=r"templates\.txt does not exist"):
        open_labelled_set(config.model_copy(update={"wording": True}))


def test_configured_lists_replace_those_of_the_set(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("vixen\towl\nhare\n")
    config = make_tars(tmp_path / "set", class_names=str(tmp_path / "names.txt"), templates="simple")
    labelled = open_labelled_set(config)
    assert labelled.class_names == [["vixen", "owl"], ["hare"]]
    assert len(labelled.templates) == 7
    assert labelled.labels_of("owl") == (0,)


def test_digests_tell_lists_apart_that_differ_in_a_text_or_in_the_order() -> None:
    def digests(names: list[list[str]], templates: list[str]) -> tuple[str, str]:
        labelled = LabelledSet("set", names, templates, {})
        return labelled.names_digest, labelled.templates_digest

    first = digests([["a"], ["b", "c"]], ["{c}"])
    assert first == digests([["a"], ["b", "c"]], ["{c}"])
    for other in ([["b", "c"], ["a"]], [["a"], ["b"], ["c"]], [["a", "b"], ["c"]]):
        assert digests(other, ["{c}"])[0] != first[0]
    assert digests([["a"], ["b", "c"]], ["a {c}"])[1] != first[1]


@case("Evaluation", "another number of images than `expected` says", "no result; the message has both numbers", 3)
def test_another_number_of_images_than_expected_is_refused() -> None:
    config = LabelledConfig(name="animals", path="set", expected={"test": 50_000})
    check_expected(config, "test", 50_000)
    check_expected(config, "train", 3)
    with pytest.raises(NoResultError, match="split 'test' has 49,999 images, and expected says 50,000"):
        check_expected(config, "test", 49_999)


@case("Evaluation", "a split without images", "no result", exit_code=3)
def test_an_empty_split_is_refused() -> None:
    with pytest.raises(NoResultError, match="split 'test' has no images; check path and split"):
        check_expected(LabelledConfig(name="animals", path="set"), "test", 0)


class ConnectError(Exception):
    """As HTTP clients raise it."""


ConnectError.__module__ = "httpx._exceptions"


@pytest.mark.parametrize(("error", "expected"), [(ConnectError("no route"), OSError), (KeyError("bug"), KeyError)])
def test_an_error_of_an_http_client_is_an_error_of_the_store(
    error: Exception, expected: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shard, _) = open_labelled_set(make_tars(tmp_path)).splits["test"]

    def fail(*_: Any) -> Any:
        raise error

    monkeypatch.setattr("laclip_ray.storage.filesystem", fail)
    with pytest.raises(expected):
        list(read_labelled(shard))


@given(raw=st.text() | st.text('[]0123456789," ', max_size=30).map(lambda text: f"[{text}"))
def test_any_raw_label_has_labels_in_range_or_none(raw: str) -> None:
    labelled = LabelledSet("set", [["a"], ["b"], ["c"]], [], {}, {"a": 0}, range(3), is_multilabel=True)
    labels = labelled.labels_of(raw)
    assert labels is None or (list(labels) == sorted({*labels}) and {*labels} <= {0, 1, 2})


@pytest.mark.parametrize("raw", ["[" * 990, "[1, [2]]", '["a"', "[null]", "[1e400]", "[-1]", "[true]", "[1.5]"])
def test_lists_that_are_no_labels_are_not_usable(raw: str) -> None:
    labelled = LabelledSet("set", [["a"], ["b"], ["c"]], [], {}, {"a": 0}, range(3), is_multilabel=True)
    assert labelled.labels_of(raw) is None


HUB = "https://huggingface.co/datasets"


@case("Evaluation", "a labelled set on the Hub, without a network", "one sentence with the address", exit_code=4)
def test_a_set_of_the_hub_without_a_network_ends_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    address = f"{HUB}/clip-benchmark/wds_none/tree/main"
    with pytest.raises(OSError, match="offline") as raised:
        open_labelled_set(LabelledConfig(name="animals", path=address))
    message = explain(raised.value, {"evaluate.labelled[0].path": address})
    assert message is not None
    assert message.count("\n") == 0
    assert "HF_HUB_OFFLINE is set" in message
