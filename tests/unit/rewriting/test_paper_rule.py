"""With the paper's preset, a completion gives the text that the authors' code gives, and is shown when it would be."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.config import RewriteConfig
from laclip_ray.rewriting.engines.engine import Answer, Completion
from laclip_ray.rewriting.judging.gate import Gate, Rejection
from laclip_ray.rewriting.prompting.completions import reference_completion
from laclip_ray.rewriting.prompting.prompts import ExamplePair, completion_head
from laclip_ray.rewriting.prompting.stops import COMPLETION_STOPS
from tests.unit.rewriting.paper_rule import CAPTION, kept_text, nasty_completions, shown_text
from tests.unit.rewriting.rounds import (
    FIRST_UNIT,
    ORIGIN,
    RandomEngine,
    experiment_of,
    generator_of,
    new_location,
    sample,
    samples_of,
)

HEAD = completion_head(tuple(ExamplePair(f"source {n}", f"target {n}") for n in range(3)), "reference")
GATE = Gate(RewriteConfig(preset="paper").gate, (HEAD.pairs,), lambda text: len(text) + 2)

completions = st.text() | st.lists(st.sampled_from(["=", ">", "=>", "\n", "\r", "\u2028", " ", "a", "\t"])).map("".join)


def shown(completion: str, truncated: bool = False) -> str:
    """The text that training shows when the draw picks this completion's rewrite."""
    text = reference_completion(completion)
    reason = GATE.judge(text, CAPTION, truncated, 0, others=[text])
    assert reason in (None, Rejection.EMPTY, Rejection.TOO_SHORT)
    return text if reason is None else CAPTION


@given(completion=completions, truncated=st.booleans())
def test_any_completion_gives_the_text_of_the_papers_rule(completion: str, truncated: bool) -> None:
    kept = kept_text(HEAD, CAPTION, completion)
    assert reference_completion(completion) == kept
    assert shown(completion, truncated) == shown_text(kept, CAPTION)


@given(completion=completions)
def test_the_engines_stop_strings_take_nothing_from_it(completion: str) -> None:
    stops = [completion.find(stop) for stop in COMPLETION_STOPS if stop in completion]
    assert reference_completion(completion[: min(stops, default=len(completion))]) == reference_completion(completion)


def test_completions_that_are_hard_on_the_rule_are_many_and_differ() -> None:
    hard = nasty_completions(200)
    assert len({*hard}) == 200
    kept = [kept_text(HEAD, CAPTION, completion) for completion in hard]
    assert all(shown(completion) == shown_text(text, CAPTION) for completion, text in zip(hard, kept, strict=True))
    refused = sum(shown_text(text, CAPTION) == CAPTION for text in kept)
    assert 30 < refused < 170
    assert sum(text != completion.strip() for text, completion in zip(kept, hard, strict=True)) > 50


@dataclass
class ScriptedEngine(RandomEngine):
    """Answers each caption with the completion of its number."""

    completions: Sequence[str] = ()

    async def generate(self, prompt: str, count: int, request_id: str) -> Answer:
        """See `laclip_ray.rewriting.engines.engine.Engine`."""
        self.prompts.append((prompt, count))
        number = int(prompt.rpartition("number ")[2].split()[0])
        return Answer([Completion(self.completions[number], True, 77)], 7, 5)


def test_the_generator_keeps_and_refuses_what_the_rule_does_and_asks_once() -> None:
    hard = nasty_completions(200)
    experiment = experiment_of(preset="paper", heads=4)
    engine = ScriptedEngine(Random(0), completions=hard)
    samples = samples_of([sample(f"{n}", f"number {n}") for n in range(len(hard))], experiment)
    made = asyncio.run(generator_of(experiment, engine, new_location()).generate(FIRST_UNIT, ORIGIN, samples))
    assert len(engine.prompts) == made.num_rows == len(hard)
    assert engine.prompts[0][0].startswith("write image captions differently,\n\n            ")
    for row, completion in zip(made.to_pylist(), hard, strict=True):
        kept = kept_text(HEAD, f"number {row['row']}", completion)
        assert row["text"] == kept
        assert (row["reason"] is None) == (shown_text(kept, CAPTION) != CAPTION)


def test_half_of_a_surrogate_pair_which_no_file_can_hold_is_replaced() -> None:
    assert reference_completion(" a dog \ud83d runs\n") == "a dog \ufffd runs"
