from pathlib import Path

import pytest

from laclip_ray import progress
from laclip_ray.errors import IncompleteError, UserError
from laclip_ray.live.watching import last_capture, watch
from laclip_ray.progress.messages import Count, WorkBegan


def fail(error: BaseException) -> None:
    print("a line")
    raise error


def log_path() -> Path:
    capture = last_capture()
    assert capture is not None
    return capture.path


def test_a_log_moves_to_the_output_once_work_has_begun(tmp_path: Path) -> None:
    with watch("rewrite", str(tmp_path)):
        print("before")
        progress.tell(WorkBegan())
        print("after")
    (log,) = (tmp_path / "logs").iterdir()
    assert log.read_text() == "before\nafter\n"
    assert log.name.endswith("-rewrite.log")


@pytest.mark.parametrize("error", [UserError("bad input"), KeyboardInterrupt()])
def test_bad_input_and_ctrl_c_before_work_leave_no_file(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), watch("rewrite", str(tmp_path)):
        fail(error)
    assert not log_path().exists()
    assert not (tmp_path / "logs").exists()


def test_a_verb_without_an_output_keeps_its_log_after_an_error() -> None:
    with pytest.raises(IncompleteError), watch("rewrites preview", None):
        fail(IncompleteError("the engine died"))
    assert log_path().read_text() == "a line\n"
    log_path().unlink()


def test_messages_are_watched_only_meanwhile(tmp_path: Path) -> None:
    with watch("rewrite", str(tmp_path)):
        assert progress.is_watched()
        progress.tell(Count("k", "images", 1, 2))
    assert not progress.is_watched()
