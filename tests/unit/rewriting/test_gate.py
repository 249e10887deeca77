"""Each reason has a text that it refuses and one beside it that passes, and each check can be switched off."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.config import GateConfig
from laclip_ray.rewriting.gate import Candidate, Rejection, judge
from laclip_ray.rewriting.prompts import INSTRUCTION, ExamplePair, built_in_prompt_sets, load_prompt_set

PAIRS = (ExamplePair("IMG_1 red car!", "A red car stands in the street."),)
OFF = GateConfig(
    min_words=0,
    max_context_tokens=None,
    drop_truncated=False,
    drop_copies=False,
    drop_prompt_echo=False,
    max_repeated_words=0,
    min_shared_words=0,
)


def count(text: str) -> int:
    """One token a word, and two special ones."""
    return len(text.split()) + 2


def candidate(text: str, truncated: bool = False, caption: str = "a dog, in snow") -> Candidate:
    return Candidate(text, caption, truncated, PAIRS)


CASES = [
    (Rejection.TRUNCATED, candidate("a dog plays in", truncated=True), candidate("a dog plays in"), "drop_truncated"),
    (Rejection.PROMPT_ECHO, candidate("a dog => a cat"), candidate("a dog = a cat"), "drop_prompt_echo"),
    (
        Rejection.PROMPT_ECHO,
        candidate(f"So: {INSTRUCTION.upper()}", caption="an image"),
        candidate("So: rewrite each image caption", caption="an image"),
        "drop_prompt_echo",
    ),
    (Rejection.TOO_SHORT, candidate("dog"), candidate("dog plays"), "min_words"),
    (
        Rejection.TOO_LONG,
        candidate(" ".join(f"w{n}" for n in range(76)), caption="w10"),
        candidate(" ".join(f"w{n}" for n in range(75)), caption="w10"),
        "max_context_tokens",
    ),
    (Rejection.COPY_OF_CAPTION, candidate("A Dog in snow!"), candidate("a dog in the snow"), "drop_copies"),
    (
        Rejection.COPY_OF_EXAMPLE,
        candidate("a red car stands in the street", caption="a car"),
        candidate("a red car stands in a street", caption="a car"),
        "drop_prompt_echo",
    ),
    (
        Rejection.COPY_OF_EXAMPLE,
        candidate("IMG_1 Red Car", caption="a car"),
        candidate("IMG_2 Red Car", caption="a car"),
        "drop_prompt_echo",
    ),
    (Rejection.UNRELATED, candidate("a red umbrella"), candidate("two dogs"), "min_shared_words"),
    (Rejection.LOOPING, candidate("a dog dog, Dog dog dog"), candidate("a dog dog dog dog"), "max_repeated_words"),
]


@pytest.mark.parametrize(("reason", "bad", "good", "check"), CASES)
def test_a_text_is_refused_for_its_reason_and_its_neighbour_passes(
    reason: Rejection, bad: Candidate, good: Candidate, check: str
) -> None:
    assert judge(bad, GateConfig(), count) == reason
    assert judge(good, GateConfig(), count) is None


@pytest.mark.parametrize(("reason", "bad", "good", "check"), CASES)
def test_a_check_that_is_off_refuses_nothing_and_one_that_is_alone_does(
    reason: Rejection, bad: Candidate, good: Candidate, check: str
) -> None:
    switched_off = GateConfig().model_copy(update={check: getattr(OFF, check)})
    assert judge(bad, switched_off, count) is None
    alone = OFF.model_copy(update={check: getattr(GateConfig(), check)})
    assert judge(bad, alone, count) == reason
    assert judge(good, alone, count) is None


def test_every_reason_has_a_case() -> None:
    assert {reason for reason, *_ in CASES} | {Rejection.EMPTY} == set(Rejection)


@pytest.mark.parametrize("text", ["", " ", "\n\t"])
def test_an_empty_text_is_refused_by_every_gate(text: str) -> None:
    assert judge(candidate(text), GateConfig(), count) == Rejection.EMPTY
    assert judge(candidate(text), OFF, count) == Rejection.EMPTY


def test_the_first_check_that_fails_gives_the_reason() -> None:
    everything = candidate("=> " * 80, truncated=True)
    assert judge(everything, GateConfig(), count) == Rejection.TRUNCATED
    assert judge(everything, GateConfig(drop_truncated=False), count) == Rejection.PROMPT_ECHO
    assert judge(candidate("dog", caption="dog"), GateConfig(), count) == Rejection.TOO_SHORT


def test_texts_that_must_be_short_enough_are_not_counted() -> None:
    def never(text: str) -> int:
        raise AssertionError(text)

    assert judge(candidate("a dog plays in the snow"), GateConfig(), never) is None


def test_copies_are_found_beyond_case_in_every_script() -> None:
    assert judge(candidate("STRASSE, NACH Köln", caption="Straße nach köln"), GateConfig(), count) is not None


def test_a_caption_without_content_words_has_no_unrelated_rewrites() -> None:
    assert judge(candidate("a red umbrella", caption="on to 7"), GateConfig(), count) is None


def test_no_pair_written_by_people_is_unrelated() -> None:
    pairs = [pair for name in built_in_prompt_sets() for pair in load_prompt_set(name).pairs]
    refused = [pair for pair in pairs if judge(Candidate(pair.target, pair.source, False, ()), GateConfig(), count)]
    assert refused == []


@given(text=st.text(), caption=st.text(), truncated=st.booleans())
def test_the_verdict_is_a_function_of_its_arguments(text: str, caption: str, truncated: bool) -> None:
    first = judge(Candidate(text, caption, truncated, PAIRS), GateConfig(), count)
    assert judge(Candidate(text, caption, truncated, PAIRS), GateConfig(), count) == first


@given(text=st.text(), caption=st.text(), truncated=st.booleans())
def test_only_empty_texts_fail_a_gate_that_is_off(text: str, caption: str, truncated: bool) -> None:
    verdict = judge(Candidate(text, caption, truncated, PAIRS), OFF, count)
    assert verdict == (None if text.split() else Rejection.EMPTY)


@given(text=st.text(), limit=st.integers(1, 20), more=st.integers(0, 20))
def test_what_passes_a_limit_passes_a_larger_one(text: str, limit: int, more: int) -> None:
    def passes(tokens: int) -> bool:
        gate = OFF.model_copy(update={"max_context_tokens": tokens})
        return judge(candidate(text), gate, count) is None

    assert passes(limit) <= passes(limit + more)
