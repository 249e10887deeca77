"""Record which places of the package build the errors that a user reads.

Python imports this module when a process starts whose PYTHONPATH names this directory: pytest, the commands that tests
start, and Ray's workers. `tests/messages.py` sets the variables and reads the record.
"""

import json
import linecache
import os
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

RECORD = "LACLIP_MESSAGE_RECORD"
"""Environment variable: a file that gets one JSON line for each place and test."""
CURRENT_TEST = "LACLIP_CURRENT_TEST_FILE"
"""Environment variable: a file with the name of the running test. Ray's workers outlive the test that starts them, so
the environment tells them an earlier one."""
CHANGED = "LACLIP_CHANGED_MESSAGES"
"""Environment variable: `ALL`, or a file with a line `FILE:LINE` for each place whose message is replaced. Tests of
these messages fail."""
ALL = "all"


def record_messages(path: Path, changed: str | None) -> None:
    """Record the places of errors in this process from now on; does nothing the second time.

    Args:
        path: the file to append to.
        changed: the places whose messages are replaced, as `CHANGED` says; None: none.
    """
    from laclip_ray import errors

    package = str(Path(errors.__file__).parent) + os.sep
    noted: set[tuple[str, int, str]] = set()
    changed_places = {*Path(changed).read_text().split()} if changed not in (None, ALL) else set()

    def note(frame_file: str, line: int) -> None:
        test = _current_test()
        if not frame_file.startswith(package) or (frame_file, line, test) in noted:
            return
        noted.add((frame_file, line, test))
        source = linecache.getline(frame_file, line).strip()
        row = {"file": frame_file.removeprefix(package), "line": line, "source": source, "test": test}
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def recording(original: Any) -> Any:
        def record(self: BaseException, *args: Any) -> None:
            frame: FrameType = sys._getframe(1)
            if frame.f_code.co_filename.startswith(package):
                handled = _tracebacks(sys.exc_info()[1], set())
                places = [(frame.f_code.co_filename, frame.f_lineno)]
                places += [(raised.tb_frame.f_code.co_filename, raised.tb_lineno) for raised in handled]
                for place in places:
                    note(*place)
                names = {f"{file.removeprefix(package)}:{line}" for file, line in places}
                if changed == ALL or names & changed_places:
                    args = ("this message was changed",)
            original(self, *args)

        record.records_messages = True  # type: ignore[attr-defined]
        return record

    for kind in (errors.UserError, errors.IncompleteError, errors.SurroundingsError):
        if not hasattr(kind.__init__, "records_messages"):
            kind.__init__ = recording(kind.__init__)  # type: ignore[method-assign]


def _current_test() -> str:
    with suppress(KeyError, OSError):
        return Path(os.environ[CURRENT_TEST]).read_text()
    return ""  # no test has begun


def _tracebacks(error: BaseException | None, seen: set[int]) -> list[TracebackType]:
    """Every frame that the handled errors passed: a validator's error is part of the message about its value."""
    if error is None or id(error) in seen:
        return []
    seen.add(id(error))
    found = []
    traceback = error.__traceback__
    while traceback is not None:
        found.append(traceback)
        traceback = traceback.tb_next
    causes = [error.__cause__, error.__context__]
    if type(error).__name__ == "ValidationError" and hasattr(error, "errors"):
        causes += [issue.get("ctx", {}).get("error") for issue in error.errors()]
    for cause in causes:
        found += _tracebacks(cause, seen) if isinstance(cause, BaseException) else []
    return found


if os.environ.get(RECORD):
    with suppress(ImportError):  # another program's Python has no such package
        record_messages(Path(os.environ[RECORD]), os.environ.get(CHANGED))
