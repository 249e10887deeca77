"""One line says what a listing left out."""

import logging
import uuid

import pytest

from laclip_ray.data import left_out
from laclip_ray.data.left_out import describe_left_out, log_left_out, reason_with_extension
from laclip_ray.tally import Tally


def tally_of(**counts: int) -> Tally:
    tally = Tally()
    for reason, count in counts.items():
        for number in range(count):
            tally.add(reason, f"{reason}{number}")
    return tally


def test_counts_names_and_extensions_are_in_the_line() -> None:
    tally = tally_of(hidden=1)
    for number in range(30):
        tally.add(reason_with_extension(left_out.NO_DATA, ".json"), f"{number}.json")
    assert describe_left_out(tally) == (
        "1 hidden, with a name that begins with . or _ (hidden0); "
        "30 .json of no data format (0.json, 1.json, 2.json and 27 more)"
    )


def test_every_reason_has_words() -> None:
    reasons = [value for name, value in vars(left_out).items() if name.isupper() and isinstance(value, str)]
    assert {*reasons} == left_out._WORDS.keys()
    assert describe_left_out(tally_of(**dict.fromkeys(reasons, 1))).count(";") >= len(reasons) - 1


@pytest.mark.parametrize(("reason", "level"), [("no_data", logging.INFO), ("compressed_table", logging.WARNING)])
def test_possible_data_is_a_warning_and_each_line_is_logged_once(
    reason: str, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="laclip_ray")
    setting = uuid.uuid4().hex
    for _ in range(3):
        log_left_out(tally_of(**{reason: 2}), setting, 7)
    (record,) = caplog.records
    assert record.levelno == level
    assert record.getMessage().startswith(f"{setting}.path: 7 shards; left out: 2 ")


def test_nothing_left_out_is_no_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="laclip_ray")
    log_left_out(Tally(), "data", 7)
    assert not caplog.records
