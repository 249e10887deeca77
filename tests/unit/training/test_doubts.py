"""Doubtful settings are told, each in one sentence that names the setting; fitting ones are not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.config import EvaluateConfig, RetrievalConfig, TrainConfig
from laclip_ray.survey.settings import settings_for
from laclip_ray.training.doubts import doubts

EVALUATED = EvaluateConfig(retrieval=[RetrievalConfig(name="held-out", held_out=True)])


@pytest.mark.parametrize(
    ("samples", "train", "evaluate", "setting"),
    [
        (5_000, TrainConfig(), EVALUATED, "train.batch_size: a batch of 8,192 is larger than the data (5,000 "),
        (8_192, TrainConfig(), EVALUATED, "train.batch_size: an epoch of 8,192 samples is one step"),
        (16_383, TrainConfig(), EVALUATED, "train.batch_size: an epoch of 16,383 samples is one step"),
        (10**6, TrainConfig(epochs=2, warmup_epochs=2.0), EVALUATED, "train.warmup_epochs: "),
        (10**6, TrainConfig(), EvaluateConfig(), "evaluate: no set is configured"),
    ],
)
def test_each_doubt_names_its_setting(samples: int, train: TrainConfig, evaluate: EvaluateConfig, setting: str) -> None:
    (doubt,) = doubts(samples, train, evaluate)
    assert doubt.startswith(setting)
    assert "\n" not in doubt


@given(st.integers(1, 10**6))
def test_the_advised_batch_raises_no_doubt_where_one_can(samples: int) -> None:
    told = list(doubts(samples, TrainConfig(batch_size=2 * samples), EVALUATED))
    advised = int(told[0].rpartition(" ")[2].replace(",", ""))
    if samples > 1:
        assert not [*doubts(samples, TrainConfig(batch_size=advised), EVALUATED)]


def test_the_defaults_fit_the_papers_data() -> None:
    assert not [*doubts(12_000_000, TrainConfig(epochs=35), EVALUATED)]


@given(st.integers(4, 10**9), st.integers(0, 16))
def test_settings_for_any_data_raise_no_doubt(samples: int, gpus: int) -> None:
    settings = settings_for(samples, gpus)
    train = TrainConfig(
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        workers=settings.workers,
        warmup_epochs=settings.warmup_epochs,
    )
    assert not [*doubts(settings.trained, train, EVALUATED)]
