"""Shapes of model output: the share from which the rewrite is taken as the table in the unit tests states."""

import timeit
from collections import Counter
from collections.abc import Iterator

from laclip_ray.rewriting.prompting.completions import parse_completion
from tests.figures.figure import Figure
from tests.figures.gate import web_captions
from tests.unit.rewriting.shapes import MUG, SHAPES


def shapes(show: int) -> Iterator[Figure]:
    """Parse every shape, and time the parser on a plain text and on the shapes.

    Args:
        show: the number of the show that the figures belong to.
    """
    taken = Counter(shape.kind for shape in SHAPES if parse_completion(shape.completion, shape.caption) == shape.taken)
    total = Counter(shape.kind for shape in SHAPES)
    yield Figure(show, "shapes of model output", total.total(), "shapes", at_least=90)
    yield Figure(show, "taken as stated", taken.total() / total.total(), "share", at_least=1.0)
    for kind, count in total.items():
        yield Figure(show, f"taken as stated: {count} of {kind}", taken[kind] / count, "share")
    captions = web_captions()
    if captions:
        changed = sum(parse_completion(caption, "picture") != " ".join(caption.split()) for caption in captions)
        yield Figure(
            show, f"changed of {len(captions)} web captions, as if written", 100 * changed / len(captions), "%"
        )
    yield Figure(show, "parsing a plain text", _microseconds([(f" {MUG}\n", "")]), "us", at_most=3.0)
    odd = [(shape.completion, shape.caption) for shape in SHAPES if shape.kind != "plain"]
    yield Figure(show, "parsing another shape", _microseconds(odd), "us")


def _microseconds(arguments: list[tuple[str, str]]) -> float:
    """Microseconds per completion: the best of 20 passes."""

    def parse_all() -> None:
        for completion, caption in arguments:
            parse_completion(completion, caption)

    passes = max(1, 2_000 // len(arguments))
    return min(timeit.repeat(parse_all, number=passes, repeat=20)) / (passes * len(arguments)) * 1e6
