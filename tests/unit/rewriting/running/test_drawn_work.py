"""What an engine tells of its work adds up to what it has drawn."""

import asyncio
from dataclasses import replace
from random import Random

from hypothesis import given

from laclip_ray.config import Experiment
from laclip_ray.data.records import Sample
from laclip_ray.progress.messages import UnitDrawn
from laclip_ray.rewriting.running.drawn_work import DrawnWork
from laclip_ray.rewriting.running.generator import unit_name
from tests.unit.rewriting.rounds import (
    FIRST_UNIT,
    ORIGIN,
    RandomEngine,
    experiments,
    generator_of,
    new_location,
    randoms,
    samples_of,
    some_samples,
)


class Watched(DrawnWork):
    """Keeps the units as they were when the newest of them ended."""

    last: UnitDrawn | None = None

    def end(self, unit: str) -> None:
        self.last = self.message("engine").units.get(unit)
        super().end(unit)


@given(samples=some_samples, experiment=experiments, random=randoms)
def test_at_its_end_every_caption_of_a_unit_is_done_once(
    samples: list[Sample], experiment: Experiment, random: Random
) -> None:
    work, table = Watched(), samples_of(samples, experiment)
    generator = replace(generator_of(experiment, RandomEngine(random), new_location()), work=work)
    made = asyncio.run(generator.generate(FIRST_UNIT, ORIGIN, table))
    assert work.last == UnitDrawn(len(samples), len(samples))
    message = work.message("engine")
    assert message.units == {}
    assert message.prompt_tokens == sum(made.column("prompt_tokens").to_pylist())
    assert message.cached_tokens == sum(made.column("cached_tokens").to_pylist())


def test_a_unit_that_is_cut_into_pieces_counts_them_all() -> None:
    work = DrawnWork()
    work.begin("s/a", 10)
    work.add_captions("s/a", 10)
    work.begin("s/a", 5)
    assert work.message("e").units == {"s/a": UnitDrawn(10, 15)}


def test_captions_of_a_unit_that_has_ended_are_not_told() -> None:
    work = DrawnWork()
    work.begin(unit_name(FIRST_UNIT), 10)
    work.end(unit_name(FIRST_UNIT))
    work.add_captions(unit_name(FIRST_UNIT), 1)
    assert work.message("e").units == {}
