"""Settings fit any dataset: they are valid, and grow with it."""

from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.survey.settings import (
    CPU_IMAGES,
    MOST_BATCH,
    MOST_SAMPLES_ON_CPU,
    held_out_share,
    planned_gpus,
    settings_for,
)

SAMPLES = st.integers(1, 10**10)
GPUS = st.integers(0, 64)


@given(SAMPLES, GPUS)
def test_batches_divide_among_workers_and_fit_the_data(samples: int, gpus: int) -> None:
    settings = settings_for(samples, gpus)
    assert settings.batch_size % settings.workers == 0
    assert 1 <= settings.workers <= max(1, gpus)
    assert settings.batch_size <= min(MOST_BATCH, settings.trained)
    assert 0 < settings.warmup_epochs < settings.epochs


@given(SAMPLES, SAMPLES, GPUS)
def test_more_data_gives_no_smaller_batch_and_no_larger_share_held_out(one: int, other: int, gpus: int) -> None:
    small, large = sorted((one, other))
    assert held_out_share(small) >= held_out_share(large)
    if gpus in (0, 1, 2, 4, 8):
        assert settings_for(small, gpus).batch_size <= settings_for(large, gpus).batch_size


@given(SAMPLES)
def test_at_most_a_fifth_is_held_out(samples: int) -> None:
    assert 0 < held_out_share(samples) <= 0.2


@given(st.integers(1, MOST_SAMPLES_ON_CPU))
def test_a_try_on_a_cpu_trains_on_few_images(samples: int) -> None:
    assert planned_gpus(samples, gpus=0) == 0
    settings = settings_for(samples, gpus=0)
    assert settings.epochs * settings.trained <= max(CPU_IMAGES, 2 * settings.trained)


@given(st.integers(MOST_SAMPLES_ON_CPU + 1, 10**10))
def test_large_data_gets_the_settings_of_a_gpu_on_any_machine(samples: int) -> None:
    assert planned_gpus(samples, gpus=0) == 1


@given(SAMPLES, GPUS)
def test_nothing_is_held_out_beside_a_split_to_measure(samples: int, gpus: int) -> None:
    settings = settings_for(samples, gpus, has_split=True)
    assert (settings.held_out, settings.trained) == (0.0, samples)


def test_the_papers_data_gets_the_papers_batch_and_epochs() -> None:
    settings = settings_for(10_000_000, gpus=8)
    assert (settings.batch_size, settings.epochs, settings.learning_rate) == (8_192, 35, 1e-3)
