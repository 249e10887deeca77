"""Files appear whole, listings leave out what is being written, and output that would be lost is refused."""

import os
import uuid
from pathlib import Path

import pyarrow as pa
import pytest

from laclip_ray import storage
from laclip_ray.errors import UserError


@pytest.fixture(params=["local", "file", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A directory on each kind of storage."""
    return {
        "local": str(tmp_path / "place"),
        "file": f"file://{tmp_path}/place",
        "memory": f"memory://unit-{uuid.uuid4().hex}",
    }[request.param]


def test_what_is_written_is_read(place: str) -> None:
    url = storage.join(place, "a", "b.bin")
    assert not storage.exists(url)
    storage.write_bytes(url, b"\x00content")
    assert storage.exists(url)
    assert storage.read_bytes(url) == b"\x00content"
    assert storage.is_directory(storage.join(place, "a"))
    assert not storage.is_directory(url)


def test_json_and_parquet_come_back_as_they_were(place: str) -> None:
    storage.write_json(storage.join(place, "a.json"), {"é": [1, None, 0.5]})
    assert storage.read_json(storage.join(place, "a.json")) == {"é": [1, None, 0.5]}
    table = pa.table({"a": [1, 2], "b": ["x", None]})
    storage.write_parquet(storage.join(place, "a.parquet"), table)
    assert storage.read_parquet(storage.join(place, "a.parquet")).equals(table)
    assert storage.read_parquet(storage.join(place, "a.parquet"), ["b"]).column_names == ["b"]


def test_a_second_write_replaces_the_first(place: str) -> None:
    url = storage.join(place, "a")
    storage.write_bytes(url, b"a longer first content")
    storage.write_bytes(url, b"second")
    assert storage.read_bytes(url) == b"second"
    assert [storage.name_of(each) for each in storage.list_files(place)] == ["a"]


def test_a_directory_lists_its_files_sorted_and_each_can_be_read(place: str) -> None:
    for name in ("b.txt", "sub/c.txt", "a.txt"):
        storage.write_bytes(storage.join(place, name), name.encode())
    assert [storage.read_bytes(url) for url in storage.list_files(place)] == [b"a.txt", b"b.txt", b"sub/c.txt"]


def test_a_directory_that_does_not_exist_lists_nothing(place: str) -> None:
    assert storage.list_files(storage.join(place, "none")) == []


def test_nothing_is_left_beside_a_written_file(tmp_path: Path) -> None:
    storage.write_bytes(str(tmp_path / "a" / "b"), b"content")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


@pytest.mark.parametrize("broken", ["write_bytes", "replace"])
def test_a_failed_write_leaves_the_old_content_and_nothing_else(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a"
    storage.write_bytes(str(target), b"old")
    whole = Path.write_bytes

    def fail(path: Path, content: object) -> None:
        if broken == "write_bytes":
            whole(path, b"ne")
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Path, broken, fail)
        with pytest.raises(OSError, match="the disk is full"):
            storage.write_bytes(str(target), b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_files_that_are_being_written_are_in_no_listing(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"")
    (tmp_path / f"a.tar{storage.ASIDE_MARK}0").write_bytes(b"")
    assert storage.list_files(str(tmp_path)) == [str(tmp_path / "a.tar")]
    assert storage.expand(str(tmp_path)) == [str(tmp_path / "a.tar")]
    assert storage.expand(str(tmp_path / "a*")) == [str(tmp_path / "a.tar")]


def test_a_directory_whose_path_holds_the_mark_lists_its_files(tmp_path: Path) -> None:
    url = str(tmp_path / f"build{storage.ASIDE_MARK}3" / "a.tar")
    storage.write_bytes(url, b"")
    assert storage.list_files(str(tmp_path)) == [url]


def test_expand_takes_a_file_a_directory_or_a_glob(place: str) -> None:
    for name in ("0.tar", "1.tar", "notes.txt", "sub/2.tar"):
        storage.write_bytes(storage.join(place, name), b"")

    def names(url: str) -> list[str]:
        return [storage.name_of(each) for each in storage.expand(url)]

    assert names(storage.join(place, "1.tar")) == ["1.tar"]
    assert names(place) == ["0.tar", "1.tar", "notes.txt", "2.tar"]
    assert names(storage.join(place, "*.tar")) == ["0.tar", "1.tar"]
    assert names(storage.join(place, "[1-9].tar")) == ["1.tar"]
    assert names(storage.join(place, "*", "*.tar")) == ["2.tar"]
    assert names(storage.join(place, "*.csv")) == []
    assert names(storage.join(place, "none")) == []


def test_a_glob_gives_files_not_directories(place: str) -> None:
    for name in ("a", "sub/b"):
        storage.write_bytes(storage.join(place, name), b"")
    assert [storage.name_of(each) for each in storage.expand(storage.join(place, "*"))] == ["a"]


def test_what_expand_gives_can_be_read(place: str) -> None:
    storage.write_bytes(storage.join(place, "a.tar"), b"content")
    for url in (place, storage.join(place, "*.tar"), storage.join(place, "a.tar")):
        assert [storage.read_bytes(each) for each in storage.expand(url)] == [b"content"]


def test_an_unknown_protocol_is_the_users_error() -> None:
    with pytest.raises(UserError, match="nosuch://a"):
        storage.exists("nosuch://a")


def test_lines_come_with_the_offsets_where_they_begin(place: str) -> None:
    content = b"one\r\n\ntwo\nthree"
    url = storage.join(place, "a.txt")
    storage.write_bytes(url, content)
    lines = list(storage.iterate_lines(url, block_bytes=4))
    assert [line for _, line in lines] == [b"one", b"", b"two", b"three"]
    for number, (offset, _) in enumerate(lines):
        assert list(storage.iterate_lines(url, offset)) == lines[number:]


def test_a_copied_directory_is_described_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    for name in ("a.json", "b.bin", "sub/c.json", "sub/d.bin"):
        storage.write_bytes(str(source / name), name.encode())
    written: list[str] = []
    write = storage.write_bytes

    def record(url: str, content: bytes) -> None:
        written.append(url.rpartition("/target/")[2])
        write(url, content)

    monkeypatch.setattr(storage, "write_bytes", record)
    storage.copy_directory(str(source), str(tmp_path / "target"))
    assert sorted(written) == ["a.json", "b.bin", "sub/c.json", "sub/d.bin"]
    assert [name.endswith(".json") for name in written] == [False, False, True, True]
    assert (tmp_path / "target" / "sub" / "d.bin").read_bytes() == b"sub/d.bin"


def test_relative_output_is_refused_in_a_ray_job_only() -> None:
    with pytest.raises(UserError, match=r"train\.output: 'runs/a' is a relative path"):
        storage.check_output("runs/a", "train.output", True, 1, [])
    storage.check_output("runs/a", "train.output", False, 1, [])


def test_local_output_is_refused_on_several_nodes_unless_they_share_it(tmp_path: Path) -> None:
    url = str(tmp_path / "shared" / "run")
    with pytest.raises(UserError, match=r"train\.output: .* the cluster has 2 nodes"):
        storage.check_output(url, "train.output", False, 2, [])
    with pytest.raises(UserError, match="2 nodes"):
        storage.check_output(url, "train.output", False, 2, [str(tmp_path / "share")])
    storage.check_output(url, "train.output", False, 2, ["/other", str(tmp_path / "shared")])
    storage.check_output(url, "train.output", False, 1, [])
    storage.check_output("memory://bucket/run", "train.output", True, 2, [])


def test_a_file_as_output_is_refused(place: str) -> None:
    url = storage.join(place, "a")
    storage.write_bytes(url, b"")
    with pytest.raises(UserError, match=r"out: .* is a file; expected a directory"):
        storage.check_output(url, "out", False, 1, [])
    storage.check_output(place, "out", False, 1, [])


def test_a_removed_file_is_gone_and_its_neighbours_are_not(place: str) -> None:
    for name in ("a", "b"):
        storage.write_bytes(storage.join(place, "sub", name), b"content")
    storage.remove(storage.join(place, "sub", "a"))
    assert not storage.exists(storage.join(place, "sub", "a"))
    assert [storage.name_of(url) for url in storage.list_files(place)] == ["b"]


def test_removing_what_is_not_there_does_nothing(place: str) -> None:
    storage.remove(storage.join(place, "none"))
    storage.write_bytes(storage.join(place, "a"), b"content")
    storage.remove(storage.join(place, "none"))
    storage.remove(storage.join(place, "sub", "none"))
    assert [storage.name_of(url) for url in storage.list_files(place)] == ["a"]


def test_a_file_keeps_its_identity_while_it_is_not_written(place: str) -> None:
    url = storage.join(place, "a")
    storage.write_bytes(url, b"content")
    before = storage.identity(url)
    assert storage.read_bytes(url) == b"content"
    storage.write_bytes(storage.join(place, "b"), b"another")
    assert storage.identity(url) == before


def test_content_of_another_length_is_another_identity(place: str) -> None:
    url = storage.join(place, "a")
    found = set()
    for content in (b"", b"1", b"11"):
        storage.write_bytes(url, content)
        found.add(storage.identity(url))
    assert len(found) == 3


def test_a_local_file_that_was_written_later_is_another_one(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"content")
    before = storage.identity(str(path))
    changed_ns = path.stat().st_mtime_ns
    os.utime(path, ns=(changed_ns, changed_ns + 1_000_000_000))
    assert storage.identity(str(path)) != before
    os.utime(path, ns=(changed_ns, changed_ns))
    assert storage.identity(str(path)) == storage.identity(f"file://{path}") == before


def test_what_is_not_there_has_no_identity(place: str) -> None:
    with pytest.raises(FileNotFoundError):
        storage.identity(storage.join(place, "none"))


def test_directories_are_listed_by_name_without_files_and_what_is_below(place: str) -> None:
    for name in ("b/x", "a/deep/x", "10/x", "file"):
        storage.write_bytes(storage.join(place, name), b"")
    assert storage.list_directories(place) == ["10", "a", "b"]
    assert storage.list_directories(f"{place}/") == ["10", "a", "b"]
    assert storage.list_directories(storage.join(place, "a")) == ["deep"]
    assert storage.list_directories(storage.join(place, "b")) == []
    assert storage.list_directories(storage.join(place, "none")) == []


def test_a_directory_that_was_made_since_is_listed(place: str) -> None:
    storage.write_bytes(storage.join(place, "a", "x"), b"")
    assert storage.list_directories(place) == ["a"]
    storage.write_bytes(storage.join(place, "b", "x"), b"")
    assert storage.list_directories(place) == ["a", "b"]


def test_a_parquet_files_metadata_is_read_from_it(place: str) -> None:
    table = pa.table({"a": [1, 2]})
    storage.write_parquet(storage.join(place, "plain.parquet"), table)
    storage.write_parquet(storage.join(place, "a.parquet"), table.replace_schema_metadata({"key": "välue", "b": ""}))
    assert storage.read_parquet_metadata(storage.join(place, "plain.parquet")) == {}
    found = storage.read_parquet_metadata(storage.join(place, "a.parquet"))
    assert found == {b"key": "välue".encode(), b"b": b""}
    assert storage.read_parquet(storage.join(place, "a.parquet")).schema.metadata == found


def test_ray_is_given_no_filesystem_and_an_absolute_path_for_a_local_place(tmp_path: Path) -> None:
    assert storage.ray_filesystem(str(tmp_path / "a")) == (None, str(tmp_path / "a"))
    assert storage.ray_filesystem(f"file://{tmp_path}/a") == (None, str(tmp_path / "a"))
    assert storage.ray_filesystem("a/b") == (None, str(tmp_path / "a" / "b"))


def test_ray_reads_and_writes_the_same_files_as_we_do_elsewhere() -> None:
    url = f"memory://unit-{uuid.uuid4().hex}/a"
    storage.write_bytes(url, b"ours")
    fs, path = storage.ray_filesystem(url)
    with fs.open_input_stream(path) as file:
        assert file.read() == b"ours"
    with fs.open_output_stream(f"{path}2") as file:
        file.write(b"theirs")
    assert storage.read_bytes(f"{url}2") == b"theirs"
