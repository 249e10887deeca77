import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray import progress
from laclip_ray.progress.messages import (
    Count,
    EngineStart,
    EngineWork,
    Message,
    Phase,
    Rewriting,
    TrainingRow,
    TrainingStart,
    TrainingStep,
    UnitDrawn,
    WorkBegan,
    from_json,
    to_json,
)

TEXTS = st.text(max_size=20)
NUMBERS = st.integers(0, 10**9)
MESSAGES = st.one_of(
    st.just(WorkBegan()),
    st.builds(Phase, TEXTS, TEXTS, st.sampled_from(["began", "ended", "failed"]), st.floats(0, 1e6)),
    st.builds(EngineStart, TEXTS, TEXTS, NUMBERS),
    st.builds(
        EngineWork,
        TEXTS,
        st.dictionaries(TEXTS, st.builds(UnitDrawn, NUMBERS, NUMBERS), max_size=3),
        NUMBERS,
        NUMBERS,
        NUMBERS,
        NUMBERS,
    ),
    st.builds(Rewriting, NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.none() | TEXTS, TEXTS, NUMBERS),
    st.builds(TrainingStart, TEXTS, NUMBERS, NUMBERS, NUMBERS, NUMBERS),
    st.builds(TrainingStep, TEXTS, NUMBERS),
    st.builds(TrainingRow, TEXTS, st.dictionaries(TEXTS, st.floats(allow_nan=False) | TEXTS, max_size=3)),
    st.builds(Count, TEXTS, TEXTS, NUMBERS, st.none() | NUMBERS),
)


@pytest.fixture
def forwarding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress._route, "is_forwarding", True)


@given(MESSAGES)
def test_a_message_survives_json(message: Message) -> None:
    assert from_json(json.loads(json.dumps(to_json(message)))) == message


def test_a_watcher_gets_messages_only_while_it_watches() -> None:
    got: list[Message] = []
    progress.tell(WorkBegan())
    with progress.watched_by(got.append):
        progress.tell(TrainingStep("out", 3))
    progress.tell(WorkBegan())
    assert got == [TrainingStep("out", 3)]


def test_a_watcher_that_fails_does_not_stop_work() -> None:
    def fail(_: Message) -> None:
        raise OSError("the terminal is gone")

    with progress.watched_by(fail):
        progress.tell(WorkBegan())


@pytest.mark.usefixtures("forwarding")
def test_a_forwarded_message_is_found_in_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    progress.tell(Count("a", "images", 3, None))
    line = capsys.readouterr().out
    assert progress.message_in(f"(RewritingActor pid=7) {line}") == Count("a", "images", 3, None)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"kind": "Nothing"}',
        '{"kind": "TrainingStep", "output": "a"}',
        '{"kind": "TrainingStep", "output": "a", "step": "many"}',
        '{"kind": "TrainingStep", "output": 3, "step": 3}',
        '{"kind": "EngineWork", "engine": "a", "units": 3}',
        '{"kind": "EngineWork", "engine": "a", "units": {"u": {"done": "x", "captions": 1}}, "slots": 1, "accepted": 1,'
        ' "prompt_tokens": 1, "cached_tokens": 1}',
    ],
)
def test_a_damaged_or_forged_line_holds_no_message(content: str) -> None:
    assert progress.message_in(f"{progress.MARK} {content}") is None


def test_a_phase_tells_its_end_and_its_failure() -> None:
    got: list[Message] = []
    with progress.watched_by(got.append):
        with progress.phase("listing"):
            pass
        with pytest.raises(KeyError), progress.phase("loading"):
            raise KeyError
    assert [message.state for message in got if isinstance(message, Phase)] == ["began", "ended", "began", "failed"]
