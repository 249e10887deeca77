"""Log records cannot leak secrets or act on a terminal."""

import logging

import pytest

from laclip_ray.logs import CleanFormatter, clean, clean_records_of_this_process
from tests.cases import case

SECTION = "Configs and secrets"


def record(message: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("laclip_ray.test", logging.INFO, "file", 1, message, arguments, None)


@case(SECTION, "an id with terminal sequences in a log line", "the line shows them as escape sequences")
def test_control_characters_of_arguments_are_escaped() -> None:
    assert CleanFormatter("%(message)s").format(record("shard %s", "\x1b[2Jevil\r")) == r"shard \x1b[2Jevil\r"


@case(SECTION, "a signed URL in a log line or an error", "the signature is shown as ***")
def test_secrets_are_replaced_in_messages_and_tracebacks() -> None:
    error = OSError("403 for https://me:password1@h/x?sig=abc")
    failed = record("reading %s", "https://h/x?token=abc")
    failed.exc_info = (OSError, error, None)
    text = CleanFormatter("%(message)s").format(failed)
    assert "reading https://h/x?token=***" in text
    assert "403 for https://***@h/x?sig=***" in text


def test_records_of_a_process_are_cleaned_for_every_handler(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    factory = logging.getLogRecordFactory()
    try:
        clean_records_of_this_process()
        logging.getLogger("laclip_ray.test").warning("id %s at %s", "\x07", "https://h/?sig=a")
    finally:
        logging.setLogRecordFactory(factory)
    assert caplog.messages[-1] == r"id \x07 at https://h/?sig=***"


def test_cleaning_twice_changes_nothing() -> None:
    text = "a\x00 https://me:pw@h/"
    assert clean(clean(text)) == clean(text)
