"""The chain of causes behind an error, and the innermost one in a line.

Ray wraps the error of a task, prints pages for it, and ends them with hints. Pickling an error loses its own causes, so
the chain continues in the text of the task's traceback.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

LOSSES = frozenset(
    (
        *("RayActorError", "ActorDiedError", "ActorUnavailableError", "WorkerCrashedError", "NodeDiedError"),
        *("LocalRayletDiedError", "OutOfMemoryError", "OwnerDiedError", "ObjectLostError", "ObjectFetchTimedOutError"),
        *("ObjectReconstructionFailedError", "RpcError", "GetTimeoutError", "PreemptionError"),
        *("WorkerHealthCheckFailedError", "WorkerHealthCheckTimeoutError", "WorkerGroupStartupFailedError"),
        *("WorkerGroupStartupTimeoutError", "CollectiveTimeoutError", "BroadcastCollectiveTimeoutError"),
    )
)
"""Types of errors that say only that a process or a node was lost."""

_EMPTY_WRAPPERS = frozenset({"SystemException"})
"""Ray Data raises each error of its own `from` an empty one of these."""

_PACKAGE = "laclip_ray."
_LONGEST_TEXT = 500
"""Characters of a foreign error's text that a message repeats."""
_DEEPEST = 50
"""At most this many errors of a chain are examined."""

_SEPARATOR = re.compile(
    r"^(?:The above exception was (?P<direct>the direct cause) of the following exception:"
    r"|During handling of the above exception, another exception occurred:)$",
    re.MULTILINE,
)
_FRAME = re.compile(r"^ +File \"")
_ERROR_LINE = re.compile(r"^(?P<kind>[A-Za-z_][\w.]*)(?:: (?P<text>.*))?$", re.DOTALL)
_ERROR_NAME = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception|Timeout|Interrupt|Exit|Refused|Dead)\b(?:: |$)")
_RETRY_HINT = re.compile(r"\s*Failed to .{0,300}? after \d+/\d+ attempts .*To change retry attempts.*", re.DOTALL)


@dataclass(frozen=True)
class Cause:
    """One error of a chain."""

    kind: str
    """The error's type with its module, if known."""
    text: str
    error: BaseException | None = field(default=None, compare=False)
    """None if only a traceback's text names it."""

    @property
    def name(self) -> str:
        """The type without its module."""
        return self.kind.rpartition(".")[2]

    @property
    def is_ours(self) -> bool:
        """Whether the text was written for users: the type is one of this package."""
        return self.kind.startswith(_PACKAGE) and bool(self.text)

    def __str__(self) -> str:
        """Type and text in one line; for errors of this package the text alone, unchanged."""
        if self.is_ours:
            return self.text
        text = " ".join(self.text.split())
        if len(text) > _LONGEST_TEXT:
            text = f"{text[:_LONGEST_TEXT]}…"
        return f"{self.name}: {text}" if text else self.name


def chain(error: BaseException) -> list[Cause]:
    """The error and all causes behind it, outermost first. Wrappers that only repeat another error are left out."""
    found: list[Cause] = []
    _walk(error, found, set())
    return found


def innermost(error: BaseException) -> Cause:
    """The cause that says most: the outermost error of this package, else the last one of the chain."""
    causes = [cause for cause in chain(error) if cause.name not in _EMPTY_WRAPPERS or cause.text]
    return next((cause for cause in causes if cause.is_ours), causes[-1] if causes else _cause_of(error))


def describe(error: BaseException) -> str:
    """Type and text of the innermost cause, in one line.

    >>> describe(ValueError("bad\\nvalue"))
    'ValueError: bad value'
    """
    return str(innermost(error))


def is_loss(error: BaseException) -> bool:
    """Whether an error says only that a process or a node was lost, so another attempt may succeed."""
    return innermost(error).name in LOSSES


def unwrapped(error: BaseException) -> BaseException:
    """The error itself, or the error of the Ray task that it stands for."""
    for _ in range(_DEEPEST):
        cause = getattr(error, "cause", None)
        if not _is_task_error(error) or not isinstance(cause, BaseException):
            break
        error = cause
    return error


def _walk(error: BaseException, found: list[Cause], seen: set[int]) -> None:
    if id(error) in seen or len(seen) >= _DEEPEST:
        return
    seen.add(id(error))
    inner, cause = list(_inner(error)), _cause_of(error)
    in_traceback = [each for text in _tracebacks(error) for each in parse_traceback(text)]
    # An error whose text is a traceback, or a summary of the failures that it holds, says no more than they do.
    is_wrapper = _is_task_error(error) or _holds_failures(error) or "\n  File " in cause.text
    if not is_wrapper or not (inner or in_traceback):
        found.append(cause)
    for each in inner:
        _walk(each, found, seen)
    known = {(each.name, _first_line(each.text)) for each in found}
    found.extend(each for each in in_traceback if (each.name, _first_line(each.text)) not in known)


def _cause_of(error: BaseException) -> Cause:
    kind = type(error)
    try:
        text = str(error)
    except Exception as failure:  # noqa: BLE001 - foreign code, and a report must not fail
        text = f"(its text cannot be read: {type(failure).__name__})"
    return Cause(f"{kind.__module__}.{kind.__qualname__}", _RETRY_HINT.sub("", text), error)


def _is_task_error(error: BaseException) -> bool:
    """Whether this is Ray's error of a task, or Ray Train's of a worker: a wrapper with a traceback's text."""
    return any(isinstance(getattr(error, name, None), str) for name in ("traceback_str", "_traceback_str"))


def _holds_failures(error: BaseException) -> bool:
    return hasattr(error, "worker_failures") or hasattr(error, "controller_failure")


def _inner(error: BaseException) -> Iterator[BaseException]:
    """The errors that an error wraps or was raised from; the most telling one last."""
    for name in ("cause", "controller_failure", "health_check_failure", "_base_exc"):
        if isinstance(value := getattr(error, name, None), BaseException):
            yield value
    failures = getattr(error, "worker_failures", None)
    if isinstance(failures, dict):
        # A worker that was lost takes others with it, so its own error counts.
        yield from sorted(_errors(failures.values()), key=is_loss)
    if isinstance(error, BaseExceptionGroup):
        yield from error.exceptions
    if error.__cause__ is not None:
        yield error.__cause__


def _errors(values: Iterable[object]) -> list[BaseException]:
    return [value for value in values if isinstance(value, BaseException)]


def _tracebacks(error: BaseException) -> Iterator[str]:
    for name in ("traceback_str", "_traceback_str"):
        if isinstance(text := getattr(error, name, None), str):
            yield text
            return
    if "\n  File " in (text := _cause_of(error).text):
        yield text


def parse_traceback(text: str) -> list[Cause]:
    """The errors in the text of a traceback, outermost first, down to the innermost direct cause.

    >>> [each.name for each in parse_traceback('Traceback (most recent call last):\\n  File "a"\\nKeyError: 1')]
    ['KeyError']
    """
    parts = _SEPARATOR.split(text)
    blocks, are_direct = parts[::2], parts[1::2]
    found: list[Cause] = []
    for number in range(len(blocks) - 1, -1, -1):
        if (cause := _error_of_block(blocks[number])) is not None:
            found.append(cause)
        if number and are_direct[number - 1] is None:
            break
    return found


def _error_of_block(block: str) -> Cause | None:
    """The error at the end of one traceback."""
    lines = block.strip("\n").split("\n")
    frames = [number for number, line in enumerate(lines) if _FRAME.match(line)]
    start = frames[-1] + 1 if frames else 0
    while start < len(lines) and (lines[start].startswith(" ") or not lines[start].strip()):
        start += 1
    if not frames:
        start = next((number for number, line in enumerate(lines) if _ERROR_NAME.match(line)), len(lines))
    match = _ERROR_LINE.match("\n".join(lines[start:]).strip())
    if match is None:
        return None
    return Cause(match["kind"], _RETRY_HINT.sub("", match["text"] or ""))


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
