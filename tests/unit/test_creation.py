"""A file is created once: stores that refuse, ignore, interrupt or do not know the condition of a put."""

import uuid
from collections.abc import Callable
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from laclip_ray import storage
from laclip_ray.creation import create_bytes, refuses_second_creation


class _AnswerError(Exception):
    """An answer of S3, as boto raises it."""

    def __init__(self, status: int) -> None:
        self.response = {"ResponseMetadata": {"HTTPStatusCode": status}}


class AnsweringFileSystem(MemoryFileSystem):  # type: ignore[misc]
    """An object store with a script of answers to conditional puts."""

    protocol = "answering"
    store: dict[str, Any] = {}  # noqa: RUF012 - as fsspec declares it
    pseudo_dirs = [""]  # noqa: RUF012
    answers: list[Callable[["AnsweringFileSystem", str, bytes], None]] = []  # noqa: RUF012
    """What the next conditional puts do."""

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        if mode == "create" and self.answers:
            self.answers.pop(0)(self, path, value)
        else:
            super().pipe_file(path, value, mode=mode, **kwargs)


fsspec.register_implementation("answering", AnsweringFileSystem, clobber=True)


def status(number: int) -> Callable[[AnsweringFileSystem, str, bytes], None]:
    """Answer with an HTTP status, and create nothing."""

    def answer(*_: Any) -> None:
        raise OSError(f"status {number}") from _AnswerError(number)

    return answer


def lose_answer(store: AnsweringFileSystem, path: str, value: bytes) -> None:
    """Create the file; the client's second try is refused."""
    store.pipe_file(path, value)
    raise OSError("status 412") from _AnswerError(412)


def know_no_mode(*_: Any) -> None:
    """Refuse as a file system without conditional writes."""
    raise TypeError("unexpected keyword argument 'mode'")


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(AnsweringFileSystem, "answers", [])
    return f"answering://unit-{uuid.uuid4().hex}/a"


@pytest.mark.parametrize("answer", [status(400), status(501), know_no_mode])
def test_a_store_that_does_not_know_the_condition_creates_a_file_once_and_is_noticed(
    url: str, answer: Callable[..., None]
) -> None:
    AnsweringFileSystem.answers[:] = [answer] * 3
    assert create_bytes(url, b"first")
    assert not create_bytes(url, b"second")
    assert not refuses_second_creation(url, b"first")
    assert storage.read_bytes(url) == b"first"


@pytest.mark.parametrize("number", [409, 412])
def test_a_put_refused_for_a_file_that_is_gone_since_is_repeated(url: str, number: int) -> None:
    AnsweringFileSystem.answers[:] = [status(number)] * 2
    assert create_bytes(url, b"content")
    assert storage.read_bytes(url) == b"content"


def test_a_store_that_refuses_a_new_file_for_ever_is_an_error(url: str) -> None:
    AnsweringFileSystem.answers[:] = [status(412)] * 9
    with pytest.raises(OSError, match="refuses to create the file, and lists no such file"):
        create_bytes(url, b"content")


@pytest.mark.parametrize("number", [403, 500, 503])
def test_any_other_answer_is_the_stores_error(url: str, number: int) -> None:
    AnsweringFileSystem.answers[:] = [status(number)]
    with pytest.raises(OSError, match=f"status {number}"):
        create_bytes(url, b"content")
    assert not storage.exists(url)


def test_a_created_file_whose_answer_was_lost_is_said_to_be_there(url: str) -> None:
    AnsweringFileSystem.answers[:] = [lose_answer]
    assert not create_bytes(url, b"content")
    assert storage.read_bytes(url) == b"content"
