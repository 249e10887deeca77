"""An output that cannot be written is refused before work starts, and nothing is left behind."""

import errno
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from laclip_ray.errors import SurroundingsError
from laclip_ray.local_outputs import check_writable
from tests.cases import case


def refused(output: Path | str) -> str:
    """The message about an output."""
    with pytest.raises(SurroundingsError) as error:
        check_writable({"output": str(output)})
    return str(error.value)


def test_directories_that_exist_or_can_be_made_pass_and_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    outputs = [tmp_path, tmp_path / "new" / "newer", tmp_path / "link" / "new", f"file://{tmp_path}/new"]
    check_writable({f"output{number}": str(output) for number, output in enumerate(outputs)})
    check_writable({"output": "s3://bucket/out", "train.output": "relative"})
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


@case("How a run ends", "a dangling link as output", "the message names link and target", exit_code=4)
def test_a_dangling_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("/no/such/place")
    for output in (tmp_path / "out", tmp_path / "out" / "below"):
        assert refused(output) == (
            f"output: {output} needs {tmp_path}/out, a link to /no/such/place, which does not exist. Create that, or "
            "remove the link"
        )


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "out")
    assert "a link that leads in a circle" in refused(tmp_path / "out")


@case("How a run ends", "an output with too long a name", "the message names the limit", exit_code=4)
@pytest.mark.parametrize("name", ["x" * 256, "é" * 128, "x" * 255 + "/below" + "y" * 256])
def test_a_name_that_is_too_long_is_refused(tmp_path: Path, name: str) -> None:
    assert "has a name of more than 255 bytes. Choose a shorter one" in refused(tmp_path / name)


def test_a_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    assert "is longer than 3,895 bytes" in refused(tmp_path / "/".join(["x" * 200] * 20))


def test_a_file_on_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert f"needs {tmp_path}/file, which is not a directory" in refused(tmp_path / "file" / "out")


@case("How a run ends", "an output that this user may not write", "refused before Ray starts", exit_code=4)
@case("How a run ends", "an output on a full disk", "refused before Ray starts", exit_code=4)
@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "permission is denied. Give this user access, or choose another directory"),
        (errno.EROFS, "the file system is read-only. Choose another directory"),
        (errno.ENOSPC, "the disk is full. Free some space, or choose another directory"),
        (errno.EDQUOT, "the disk quota is used up. Free some space, or choose another directory"),
        (errno.EBUSY, "Device or resource busy. Choose another"),
    ],
)
def test_a_directory_without_room_or_permission_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def fail(*_: object, **__: object) -> Any:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, "TemporaryFile", fail)
    output = tmp_path / "new" / "out"
    assert refused(output) == f"output: {output} cannot be written, as a file in {tmp_path} shows: {words}"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "permission is denied" in refused(tmp_path / "out")


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs Linux")
def test_a_file_system_that_takes_no_files_is_refused() -> None:
    assert "cannot be written, as a file in /sys/kernel shows: " in refused("/sys/kernel/out")
