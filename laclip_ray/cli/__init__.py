"""The command line: one verb for each stage, `laclip VERB CONFIG [key=value ...]`.

Exit codes: 0 complete, 2 bad input (no work started, no file written), 3 incomplete, 4 a store, network, cluster or
disk refused to work, 130 Ctrl-C, 143 SIGTERM, 1 an unforeseen error. In a submitted job, the last line of the
log names the code.

This module imports little, so signals are handled from the first moment on.
"""

import shlex
import sys
import threading
from collections.abc import Sequence
from signal import Signals

from laclip_ray import terminal
from laclip_ray.cli.ending import end_command, fail, forget_command, record
from laclip_ray.cli.manner import begin_command, take_option
from laclip_ray.endings.job_log import JobLog, open_job_log
from laclip_ray.endings.signals import EXIT_CODES, SignalWatch
from laclip_ray.errors import ExitCode


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exit unless the command is complete. Errors are printed as one message each.

    Args:
        arguments: the words after `laclip`. None: those of this process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    log = open_job_log()
    watch = SignalWatch(lambda number: _print_interruption(number, words, log))
    code: int = ExitCode.FAILED
    try:
        code = _run(words, watch)
    except KeyboardInterrupt:  # while an error was being reported
        watch.announce()
        code = watch.exit_code or ExitCode.INTERRUPTED
    except SystemExit as stopped:
        code = int(stopped.code or 0) if isinstance(stopped.code, int | None) else ExitCode.FAILED
        raise
    finally:
        if log is not None:
            log.exit_code = code
        if watch.received is None:
            watch.stop()  # else it guards the rest of the clean-up, at the end of the process
        end_command(int(code))
    if code != ExitCode.COMPLETE:
        raise SystemExit(int(code))


def _run(words: list[str], watch: SignalWatch) -> int:
    """Run a command; its exit code."""
    code: object = None
    try:
        watch.start()
        begin_command()
        forget_command()
        from laclip_ray.logs import set_up_logging
        from laclip_ray.redaction import register_environment

        set_up_logging()
        register_environment()
        from laclip_ray.cli.app import app

        code = app(words, standalone_mode=False, prog_name="laclip")
    except SystemExit as stopped:
        if watch.received is None:
            raise
        code = stopped.code
    except BaseException as error:  # noqa: BLE001 - Ctrl-C, and panics of libraries written in Rust
        if watch.received is None:
            return _report(error, words)
    if code == ExitCode.INTERRUPTED and watch.received is None:
        watch.received = Signals.SIGINT  # in a thread or program where no watch could be started
    if watch.exit_code is not None:
        # Whatever the interrupted work made of it: libraries raise errors of their own, and typer returns a code.
        watch.announce()
        return watch.exit_code
    return code if isinstance(code, int) else ExitCode.COMPLETE


def _print_interruption(number: Signals, words: Sequence[str], log: JobLog | None) -> None:
    from laclip_ray.cli.interruptions import interruption_message

    message = interruption_message(number, words)
    fail(message)
    record(next=[shlex.join(["laclip", *words])])
    print(message, file=terminal.err(), flush=True)
    if log is not None and threading.current_thread() is not threading.main_thread():
        # The clean-up is slow: Ray, or the watch, may kill this process before its end.
        log.exit_code = EXIT_CODES[number]
        log.write()


def _report(error: BaseException, words: Sequence[str]) -> int:
    """Print an error's message; its exit code."""
    from laclip_ray.cli.settings import settings
    from laclip_ray.endings.report import describe_with_log, report_of

    if getattr(error, "show", None) is not None:
        return _report_usage(error, words)
    if type(error).__name__ == "Abort" and error.__cause__ is not None:
        error = error.__cause__  # typer takes an EOFError for the end of the user's input
    report = report_of(error, settings)
    message = describe_with_log(report, error, words)
    fail(message)
    print(f"error: {message}", file=sys.stderr, flush=True)
    if report.has_traceback:
        _print_newest_lines(error)
    return report.exit_code


def _report_usage(error: BaseException, words: Sequence[str]) -> int:
    """Print a mistake in the command line itself; its exit code."""
    from laclip_ray.cli.usage import usage_message

    message = usage_message(error)
    if message is None:  # a group was called without a command: the error prints its help
        error.show()  # type: ignore[attr-defined]
    else:
        if "--json" in words:  # the mistake may have come before its turn
            take_option("json")
        fail(message)
        print(f"error: {message}", file=sys.stderr, flush=True)
    return ExitCode.BAD_INPUT


def _print_newest_lines(error: BaseException) -> None:
    """Print the newest lines of the processes that failed, and the name of the log that has the others."""
    from laclip_ray.endings.causes import chain
    from laclip_ray.live.watching import last_capture

    capture = last_capture()
    if capture is None:
        return
    found = capture.newest_lines([cause.text for cause in chain(error)])
    for process, lines in found.items():
        print(f"newest lines of {process}:", file=sys.stderr)
        for line in lines:
            print(f"  {line}", file=sys.stderr)
    if found or capture.url is not None:
        print(f"log: {capture.url or capture.path}", file=sys.stderr, flush=True)
