"""Files appear complete, listings skip unfinished files, and outputs that would be lost are refused."""

import os
import time
import uuid
from pathlib import Path

import pyarrow as pa
import pytest

from laclip_ray import storage
from laclip_ray.creation import create_bytes
from laclip_ray.errors import UserError
from tests.cases import case


@pytest.fixture(params=["local", "file", "memory"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A directory on each kind of storage."""
    return {
        "local": str(tmp_path / "location"),
        "file": f"file://{tmp_path}/location",
        "memory": f"memory://unit-{uuid.uuid4().hex}",
    }[request.param]


def test_a_written_file_reads_back(location: str) -> None:
    url = storage.join(location, "a", "b.bin")
    assert not storage.exists(url)
    storage.write_bytes(url, b"\x00content")
    assert storage.exists(url)
    assert storage.read_bytes(url) == b"\x00content"
    assert storage.is_directory(storage.join(location, "a"))
    assert not storage.is_directory(url)


def test_json_and_parquet_read_back_equal(location: str) -> None:
    storage.write_json(storage.join(location, "a.json"), {"é": [1, None, 0.5]})
    assert storage.read_json(storage.join(location, "a.json")) == {"é": [1, None, 0.5]}
    table = pa.table({"a": [1, 2], "b": ["x", None]})
    storage.write_parquet(storage.join(location, "a.parquet"), table)
    assert storage.read_parquet(storage.join(location, "a.parquet")).equals(table)
    assert storage.read_parquet(storage.join(location, "a.parquet"), ["b"]).column_names == ["b"]


def test_a_second_write_replaces_the_first(location: str) -> None:
    url = storage.join(location, "a")
    storage.write_bytes(url, b"a longer first content")
    storage.write_bytes(url, b"second")
    assert storage.read_bytes(url) == b"second"
    assert [storage.name_of(file) for file in storage.list_files(location)] == ["a"]


def test_a_directory_lists_its_files_sorted_and_each_can_be_read(location: str) -> None:
    for name in ("b.txt", "sub/c.txt", "a.txt"):
        storage.write_bytes(storage.join(location, name), name.encode())
    assert [storage.read_bytes(url) for url in storage.list_files(location)] == [b"a.txt", b"b.txt", b"sub/c.txt"]


def test_a_missing_directory_has_no_files(location: str) -> None:
    assert storage.list_files(storage.join(location, "none")) == []


def test_a_write_leaves_only_the_file(tmp_path: Path) -> None:
    storage.write_bytes(str(tmp_path / "a" / "b"), b"content")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


@pytest.mark.parametrize("broken", ["write_bytes", "replace"])
def test_a_failed_write_leaves_only_the_old_file(broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a"
    storage.write_bytes(str(target), b"old")
    write = Path.write_bytes

    def fail(path: Path, content: object) -> None:
        if broken == "write_bytes":
            write(path, b"ne")
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Path, broken, fail)
        with pytest.raises(OSError, match="the disk is full"):
            storage.write_bytes(str(target), b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_is_created_only_once(location: str) -> None:
    url = storage.join(location, "a", "b")
    assert create_bytes(url, b"first")
    assert not create_bytes(url, b"second")
    assert storage.read_bytes(url) == b"first"
    assert len(storage.list_files(location)) == 1


@pytest.mark.parametrize("size_bytes", [5, 5_000])
def test_a_file_system_without_hard_links_creates_a_file_only_once(
    size_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("links are not supported")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    assert create_bytes(str(tmp_path / "a"), b"1" * size_bytes)
    assert not create_bytes(str(tmp_path / "a"), b"2" * size_bytes)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"1" * size_bytes]


def test_a_larger_file_that_cannot_be_created_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    for name in ("hardlink_to", "replace"):
        monkeypatch.setattr(Path, name, fail)
    with pytest.raises(OSError, match="the disk is full"):
        create_bytes(str(tmp_path / "a"), b"1" * 5_000)
    assert list(tmp_path.iterdir()) == []


def test_a_later_write_has_a_later_time(location: str) -> None:
    url = storage.join(location, "a")
    storage.write_bytes(url, b"")
    before_s = storage.modified_s(url)
    time.sleep(0.02)
    storage.write_bytes(url, b"")
    assert storage.modified_s(url) > before_s


@case("Identity", "a damaged state file of a run", "refused, with the file and the remedy", exit_code=2)
@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\xff\xfe", b"null", b"[]", b"{}", b'{"a": "many"}', b"\x00" * 9])
def test_a_damaged_state_file_is_named_with_a_remedy(location: str, content: bytes) -> None:
    url = storage.join(location, "state.json")
    storage.write_bytes(url, content)
    with pytest.raises(
        UserError, match=rf"^{url}: the state of x cannot be read; the file is damaged \(.*\)\. Move it"
    ):
        storage.read_state(url, "the state of x", "Move it.", lambda state: int(state["a"]))


def test_a_whole_state_file_is_parsed_and_a_missing_one_is_missing(location: str) -> None:
    url = storage.join(location, "state.json")
    with pytest.raises(FileNotFoundError):
        storage.read_state(url, "the state of x", "Move it.", dict)
    storage.write_json(url, {"a": "3"})
    assert storage.read_state(url, "the state of x", "Move it.", lambda state: int(state["a"])) == 3


def test_listings_skip_unfinished_files(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"")
    (tmp_path / f"a.tar{storage.ASIDE_MARK}0").write_bytes(b"")
    assert storage.list_files(str(tmp_path)) == [str(tmp_path / "a.tar")]


def test_a_directory_with_the_mark_in_its_path_lists_its_files(tmp_path: Path) -> None:
    url = str(tmp_path / f"build{storage.ASIDE_MARK}3" / "a.tar")
    storage.write_bytes(url, b"")
    assert storage.list_files(str(tmp_path)) == [url]


def test_an_unknown_protocol_is_a_user_error() -> None:
    with pytest.raises(UserError, match="nosuch://a"):
        storage.exists("nosuch://a")


def test_lines_come_with_their_byte_offsets(location: str) -> None:
    content = b"one\r\n\ntwo\nthree"
    url = storage.join(location, "a.txt")
    storage.write_bytes(url, content)
    lines = list(storage.iterate_lines(url, block_bytes=4))
    assert [line for _, line in lines] == [b"one", b"", b"two", b"three"]
    for number, (offset, _) in enumerate(lines):
        assert list(storage.iterate_lines(url, offset)) == lines[number:]


def test_json_files_are_copied_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_relative_output_is_refused_only_in_a_ray_job() -> None:
    with pytest.raises(UserError, match=r"train\.output: 'runs/a' is a relative path"):
        storage.check_output("runs/a", "train.output", True, 1, [])
    storage.check_output("runs/a", "train.output", False, 1, [])


def test_a_local_output_on_several_nodes_must_be_shared(tmp_path: Path) -> None:
    url = str(tmp_path / "shared" / "run")
    with pytest.raises(UserError, match=r"train\.output: .* the cluster has 2 nodes"):
        storage.check_output(url, "train.output", False, 2, [])
    with pytest.raises(UserError, match="2 nodes"):
        storage.check_output(url, "train.output", False, 2, [str(tmp_path / "share")])
    storage.check_output(url, "train.output", False, 2, ["/other", str(tmp_path / "shared")])
    storage.check_output(url, "train.output", False, 1, [])
    storage.check_output("memory://bucket/run", "train.output", True, 2, [])


def test_a_file_as_output_is_refused(location: str) -> None:
    url = storage.join(location, "a")
    storage.write_bytes(url, b"")
    with pytest.raises(UserError, match=r"out: .* is a file; expected a directory"):
        storage.check_output(url, "out", False, 1, [])
    storage.check_output(location, "out", False, 1, [])


def test_remove_leaves_other_files(location: str) -> None:
    for name in ("a", "b"):
        storage.write_bytes(storage.join(location, "sub", name), b"content")
    storage.remove(storage.join(location, "sub", "a"))
    assert not storage.exists(storage.join(location, "sub", "a"))
    assert [storage.name_of(url) for url in storage.list_files(location)] == ["b"]


def test_removing_a_missing_file_has_no_effect(location: str) -> None:
    storage.remove(storage.join(location, "none"))
    storage.write_bytes(storage.join(location, "a"), b"content")
    storage.remove(storage.join(location, "none"))
    storage.remove(storage.join(location, "sub", "none"))
    assert [storage.name_of(url) for url in storage.list_files(location)] == ["a"]


def test_a_file_keeps_its_identity_until_the_next_write(location: str) -> None:
    url = storage.join(location, "a")
    storage.write_bytes(url, b"content")
    before = storage.identity(url)
    assert storage.read_bytes(url) == b"content"
    storage.write_bytes(storage.join(location, "b"), b"another")
    assert storage.identity(url) == before


def test_content_of_another_length_changes_the_identity(location: str) -> None:
    url = storage.join(location, "a")
    identities = set()
    for content in (b"", b"1", b"11"):
        storage.write_bytes(url, content)
        identities.add(storage.identity(url))
    assert len(identities) == 3


def test_a_later_write_changes_the_identity_of_a_local_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"content")
    before = storage.identity(str(path))
    changed_ns = path.stat().st_mtime_ns
    os.utime(path, ns=(changed_ns, changed_ns + 1_000_000_000))
    assert storage.identity(str(path)) != before
    os.utime(path, ns=(changed_ns, changed_ns))
    assert storage.identity(str(path)) == storage.identity(f"file://{path}") == before


def test_a_missing_file_has_no_identity(location: str) -> None:
    with pytest.raises(FileNotFoundError):
        storage.identity(storage.join(location, "none"))


def test_list_directories_gives_names_without_files_and_deeper_levels(location: str) -> None:
    for name in ("b/x", "a/deep/x", "10/x", "file"):
        storage.write_bytes(storage.join(location, name), b"")
    assert storage.list_directories(location) == ["10", "a", "b"]
    assert storage.list_directories(f"{location}/") == ["10", "a", "b"]
    assert storage.list_directories(storage.join(location, "a")) == ["deep"]
    assert storage.list_directories(storage.join(location, "b")) == []
    assert storage.list_directories(storage.join(location, "none")) == []


def test_a_new_directory_is_listed(location: str) -> None:
    storage.write_bytes(storage.join(location, "a", "x"), b"")
    assert storage.list_directories(location) == ["a"]
    storage.write_bytes(storage.join(location, "b", "x"), b"")
    assert storage.list_directories(location) == ["a", "b"]


def test_parquet_metadata_reads_back(location: str) -> None:
    table = pa.table({"a": [1, 2]})
    storage.write_parquet(storage.join(location, "plain.parquet"), table)
    storage.write_parquet(storage.join(location, "a.parquet"), table.replace_schema_metadata({"key": "välue", "b": ""}))
    assert storage.read_parquet_metadata(storage.join(location, "plain.parquet")) == {}
    metadata = storage.read_parquet_metadata(storage.join(location, "a.parquet"))
    assert metadata == {b"key": "välue".encode(), b"b": b""}
    assert storage.read_parquet(storage.join(location, "a.parquet")).schema.metadata == metadata


def test_ray_gets_an_absolute_path_without_filesystem_for_a_local_directory(tmp_path: Path) -> None:
    assert storage.ray_filesystem(str(tmp_path / "a")) == (None, str(tmp_path / "a"))
    assert storage.ray_filesystem(f"file://{tmp_path}/a") == (None, str(tmp_path / "a"))
    assert storage.ray_filesystem("a/b") == (None, str(tmp_path / "a" / "b"))


def test_ray_and_storage_read_each_others_files() -> None:
    url = f"memory://unit-{uuid.uuid4().hex}/a"
    storage.write_bytes(url, b"ours")
    fs, path = storage.ray_filesystem(url)
    with fs.open_input_stream(path) as file:
        assert file.read() == b"ours"
    with fs.open_output_stream(f"{path}2") as file:
        file.write(b"theirs")
    assert storage.read_bytes(f"{url}2") == b"theirs"


def test_a_file_may_have_the_longest_name(tmp_path: Path) -> None:
    target = tmp_path / ("ä" * 127 + "n")
    storage.write_bytes(str(target), b"content")
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


@case(
    "Configs and secrets", "a state file or summary that repeats a signed URL", "the file holds *** for the signature"
)
def test_no_json_file_holds_a_secret(tmp_path: Path) -> None:
    url = str(tmp_path / "summary.json")
    storage.write_json(url, {"https://me:pass@h/a?sig=abc": ["403 for https://h/b?token=abc&part=1"]})
    assert storage.read_json(url) == {"https://***@h/a?sig=***": ["403 for https://h/b?token=***&part=1"]}
