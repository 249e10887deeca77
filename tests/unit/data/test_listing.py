"""Paths name files: literally, by directory, glob, braces and joins. What is left out is counted."""

import os
import uuid
from pathlib import Path
from typing import Any

import pytest

from laclip_ray import storage
from laclip_ray.data import listing
from laclip_ray.data.data_files import identity_of_file
from laclip_ray.data.listing import find_files, urls_of
from laclip_ray.errors import UserError
from laclip_ray.tally import Tally
from tests.cases import case
from tests.unit.data.hub import PAGE, URL, hub

SECTION = "Reading data"


def make(root: str | Path, *names: str) -> str:
    for name in names:
        storage.write_bytes(storage.join(str(root), name), name.encode())
    return str(root)


@pytest.fixture(params=["local", "file", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A directory on each kind of storage."""
    return {
        "local": str(tmp_path / "root"),
        "file": f"file://{tmp_path}/root",
        "memory": f"memory://unit-{uuid.uuid4().hex}",
    }[request.param]


def names(*paths: str, left_out: Tally | None = None) -> list[str]:
    found = find_files(paths, "data", Tally() if left_out is None else left_out)
    return sorted(file.name for files in found.values() for file in files)


def refused(*paths: str) -> str:
    with pytest.raises(UserError) as caught:
        names(*paths)
    return str(caught.value)


def test_a_path_names_a_file_a_directory_or_the_matches_of_a_glob(root: str) -> None:
    make(root, "0.tar", "1.tar", "notes.txt", "sub/2.tar")
    assert names(storage.join(root, "1.tar")) == ["1.tar"]
    assert names(root) == names(f"{root}/") == ["0.tar", "1.tar", "notes.txt", "sub/2.tar"]
    assert names(storage.join(root, "*.tar")) == ["0.tar", "1.tar"]
    assert names(storage.join(root, "[1-9].tar")) == ["1.tar"]
    assert names(storage.join(root, "?.tar")) == ["0.tar", "1.tar"]
    assert names(storage.join(root, "*", "*.tar")) == ["sub/2.tar"]
    assert names(storage.join(root, "**", "*.tar")) == ["0.tar", "1.tar", "sub/2.tar"]
    assert names(storage.join(root, "*")) == ["0.tar", "1.tar", "notes.txt"]
    assert "matches no file" in refused(storage.join(root, "*.csv"))
    assert "matches no file" in refused(storage.join(root, "none", "*.csv"))
    assert "does not exist" in refused(storage.join(root, "none"))


def test_every_file_can_be_read_and_has_its_identity(root: str) -> None:
    make(root, "a.tar", "sub/b.tar")
    for path in (root, f"{root}/**/*.tar", f"{root}/{{a,sub/b}}.tar"):
        (files,) = find_files([path], "data", Tally()).values()
        assert sorted(storage.read_bytes(file.url) for file in files) == [b"a.tar", b"sub/b.tar"]
        for file in files:
            assert storage.identity(file.url).startswith(storage.identity_of(file.info))


def test_urls_of_a_path_are_sorted_and_none_if_it_names_no_file(root: str) -> None:
    make(root, "b.tar", "a.tar")
    assert [storage.name_of(url) for url in urls_of(root)] == ["a.tar", "b.tar"]
    assert urls_of(storage.join(root, "none")) == urls_of(storage.join(root, "*.csv")) == []


@case(SECTION, "the path {00000..00012}.tar", "the 13 files are read")
def test_braces_name_files(root: str) -> None:
    make(root, *(f"{number:05d}.tar" for number in range(13)), "x.tar")
    assert names(storage.join(root, "{00000..00012}.tar")) == [f"{number:05d}.tar" for number in range(13)]
    assert names(storage.join(root, "{0000{0..3},x}.tar")) == [
        "00000.tar",
        "00001.tar",
        "00002.tar",
        "00003.tar",
        "x.tar",
    ]


def test_braces_name_directories_and_globs(root: str) -> None:
    make(root, "train/0.tar", "val/0.tar", "test/0.tar")
    expected = ["train/0.tar", "val/0.tar"]
    assert names(storage.join(root, "{train,val}")) == names(storage.join(root, "{train,val}/*.tar")) == expected


@pytest.mark.parametrize("missing", [1, 20])
@case(SECTION, "a range of files with missing ones", "refused, with their number and names", exit_code=2)
def test_missing_files_of_braces_are_counted_and_named(root: str, missing: int) -> None:
    make(root, *(f"{number:05d}.tar" for number in range(13)))
    message = refused(storage.join(root, f"{{00000..{12 + missing:05d}}}.tar"))
    assert f"{missing} of the {13 + missing} paths" in message
    assert "do not exist: 00013.tar" in message


@case(SECTION, "braces that stand for millions of paths", "refused", exit_code=2)
def test_too_many_paths_are_refused(tmp_path: Path) -> None:
    assert "more than 1,000,000 paths; give a directory or a glob" in refused(f"{tmp_path}/{{0..99999999}}.tar")


@pytest.mark.parametrize("name", ["a[1].tar", "a?.tar", "a*.tar", "{1..2}.tar", "[x]/0.tar", "{a,b}/0.tar"])
@case(SECTION, "brackets, ?, * or braces in the name of a file that exists", "taken literally")
def test_names_that_exist_are_taken_literally(root: str, name: str) -> None:
    make(root, name, "a1.tar", "a2.tar", "1.tar", "2.tar", "x/1.tar")
    assert names(storage.join(root, name)) == [storage.name_of(name)]


def test_a_directory_of_a_glob_is_taken_literally_if_it_exists(root: str) -> None:
    make(root, "[ab]/0.tar", "a/1.tar", "c[1]/2.tar")
    assert names(storage.join(root, "[ab]/*.tar")) == ["0.tar"]
    assert names(storage.join(root, "c[1]/*.tar")) == ["2.tar"]
    assert names(storage.join(root, "[a]/*.tar")) == ["a/1.tar"]


@case(SECTION, "** as a part of a name", "refused, with the form that works", exit_code=2)
def test_two_asterisks_in_a_name_are_refused(tmp_path: Path) -> None:
    make(tmp_path, "a/0.tar")
    message = refused(f"{tmp_path}/**a/*.tar")
    assert message == (
        f"data.path: '{tmp_path}/**a/*.tar' is no glob (Invalid pattern: '**' can only be an entire path component); "
        "write ** alone between slashes, or * within a name"
    )


def test_names_longer_than_a_file_systems_limit_are_patterns(tmp_path: Path) -> None:
    make(tmp_path, "a.tar", "b.tar")
    listed = ",".join(["a", "b"] * 80)
    assert set(names(f"{tmp_path}/{{{listed}}}.tar")) == {"a.tar", "b.tar"}


@case(SECTION, "paths joined by ::", "all are read")
def test_joined_paths_are_all_read(root: str) -> None:
    make(root, "a/0.tar", "b/1.tar")
    assert names(f"{root}/a/0.tar::{root}/b/*.tar") == ["0.tar", "1.tar"]
    assert "holds an empty path" in refused(f"{root}/a/0.tar::")


@pytest.mark.parametrize(
    ("command", "advice"),
    [("pipe:aws s3 cp s3://b/{0..9}.tar -", "give 's3://b/{0..9}.tar'"), ("pipe:cat a.tar", "give the path or URL")],
)
@case(SECTION, "a pipe: path", "refused: give the URL that the command reads", exit_code=2)
def test_commands_are_refused(command: str, advice: str) -> None:
    assert advice in refused(command)


@pytest.mark.parametrize("pattern", ["", "/**/*", "/**/*.parquet", "/**/*.tar"])
@case(
    SECTION,
    "names that begin with . or _ (Spark's _temporary, ._0.tar, .ipynb_checkpoints)",
    "left out, counted, named",
)
def test_hidden_names_below_the_root_are_left_out(root: str, pattern: str) -> None:
    root = storage.join(root, "_tmp", ".data")
    shown = ["part-0.parquet", "0.tar", "sub/1.tar"]
    make(
        root,
        *shown,
        "_SUCCESS",
        "._0.tar",
        "_temporary/0/part-1.parquet",
        "sub/.ipynb_checkpoints/1.tar",
        "sub/.x.parquet",
    )
    left_out = Tally()
    extension = storage.name_of(pattern).partition("*")[2]
    assert names(root + pattern, left_out=left_out) == sorted(name for name in shown if name.endswith(extension))
    assert set(left_out.counts) == {"hidden"}


def test_a_hidden_directory_is_counted_once(root: str) -> None:
    make(root, "0.tar", "_SUCCESS", "_temporary/0/1.tar", "_temporary/2.tar", "sub/.x.tar")
    left_out = Tally()
    names(root, left_out=left_out)
    assert sorted(left_out.names["hidden"]) == ["_SUCCESS", "_temporary/", "sub/.x.tar"]
    assert left_out.counts["hidden"] == 3


def test_hidden_names_that_are_spelled_out_are_read(root: str) -> None:
    make(root, "_part-0.tar", "_part-1.tar", "._part.tar", ".hidden/0.tar")
    assert names(storage.join(root, "_part-*.tar")) == ["_part-0.tar", "_part-1.tar"]
    assert names(storage.join(root, "_part-0.tar")) == ["_part-0.tar"]
    assert names(storage.join(root, ".hidden")) == names(storage.join(root, ".hidden/*")) == ["0.tar"]


def test_unfinished_files_are_left_out(root: str) -> None:
    make(root, "a.tar", f"b.tar{storage.ASIDE_MARK}0")
    left_out = Tally()
    assert names(root, left_out=left_out) == names(storage.join(root, "*")) == ["a.tar"]
    assert left_out.counts == {"unfinished": 1}


@pytest.mark.parametrize("pattern", ["", "/**/*.tar"])
@case(SECTION, "linked directories", "read")
def test_linked_directories_are_read(tmp_path: Path, pattern: str) -> None:
    make(tmp_path / "elsewhere", "1.tar", "deep/2.tar")
    root = make(tmp_path / "root", "0.tar")
    Path(root, "link").symlink_to(tmp_path / "elsewhere")
    Path(root, "3.tar").symlink_to(tmp_path / "elsewhere" / "1.tar")
    assert names(root + pattern) == ["0.tar", "3.tar", "link/1.tar", "link/deep/2.tar"]
    assert names(str(Path(root, "link"))) == ["1.tar", "deep/2.tar"]


@case(SECTION, "links to a directory above, or in a circle", "not followed; counted", counted_as="link_loop")
def test_links_in_circles_are_not_followed(tmp_path: Path) -> None:
    root = make(tmp_path / "root", "0.tar", "a/1.tar")
    for name, target in (("a/up", root), ("top", "/"), ("again", f"{root}/a"), ("self", f"{root}/self")):
        Path(root, name).symlink_to(target)
    left_out = Tally()
    assert names(root, left_out=left_out) == ["0.tar", "a/1.tar"]
    assert set(left_out.names["link_loop"]) == {"a/up", "top", "again"}
    assert left_out.names["dangling_link"] == ["self"]


def test_a_link_changes_no_name_of_the_files_beside_it(tmp_path: Path) -> None:
    root = make(tmp_path / "root", "z/0.tar")
    Path(root, "a").symlink_to(Path(root, "z"))
    assert names(root) == ["z/0.tar"]


@case(SECTION, "a dangling link in a directory of data", "left out, counted, named", counted_as="dangling_link")
def test_dangling_links_are_named(tmp_path: Path) -> None:
    root = make(tmp_path / "root", "0.tar")
    Path(root, "1.tar").symlink_to(tmp_path / "gone.tar")
    left_out = Tally()
    assert names(root, left_out=left_out) == ["0.tar"]
    assert left_out.names == {"dangling_link": ["1.tar"]}
    assert "is a link to" in refused(f"{root}/1.tar")


def test_pipes_are_not_read(tmp_path: Path) -> None:
    root = make(tmp_path / "root", "0.tar")
    os.mkfifo(f"{root}/1.tar")
    left_out = Tally()
    assert names(root, left_out=left_out) == ["0.tar"]
    assert left_out.names == {"not_a_file": ["1.tar"]}
    assert "is a pipe" in refused(f"{root}/1.tar")


@case(SECTION, "a directory below the data that may not be read", "left out, named", counted_as="directory_unreadable")
def test_an_unreadable_directory_costs_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make(tmp_path / "root", "0.tar", "secret/1.tar")
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    left_out = Tally()
    assert names(root, left_out=left_out) == ["0.tar"]
    assert left_out.names == {"directory_unreadable": ["secret"]}
    with pytest.raises(PermissionError):
        names(f"{root}/secret")


def test_many_files_of_one_directory_take_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    root = make(f"memory://unit-{uuid.uuid4().hex}", *(f"{number}.tar" for number in range(40)))
    fs, _ = storage.filesystem(root)
    info, paths = fs.info, []

    def count(self: Any, path: str) -> Any:
        paths.append(path)
        return info(path)

    monkeypatch.setattr(type(fs), "info", count)
    assert len(names(*(f"{root}/{number}.tar" for number in range(40)))) == 40
    assert len(paths) < listing._MAX_REQUESTS_PER_DIRECTORY


def test_a_signature_is_no_part_of_a_files_name(monkeypatch: pytest.MonkeyPatch) -> None:
    fs, _ = storage.filesystem("https://host/a.tar?sig=secret")
    monkeypatch.setattr(fs, "info", lambda path: {"name": path, "size": 9, "type": "file"})
    assert names("https://host/a.tar?sig=secret") == ["a.tar"]


@pytest.mark.parametrize("path", ["PAGE", "PAGE/", "PAGE/{0..1}.tar", "PAGE/?.tar", "PAGE/0.tar::PAGE/1.tar"])
def test_the_page_of_a_data_set_on_the_hub_names_its_files(path: str) -> None:
    with hub({"0.tar": b"zero", "1.tar": b"one", "sub/2.csv": b"two"}):
        (of_page,) = find_files([path.replace("PAGE", PAGE)], "data", Tally()).values()
        (of_url,) = find_files([path.replace("PAGE", URL)], "data", Tally()).values()
        assert {file.url for file in of_page} >= {f"{URL}/0.tar", f"{URL}/1.tar"}
        assert list(of_page) == list(of_url)
        assert [identity_of_file(file) for file in of_page] == [identity_of_file(file) for file in of_url]
