"""A step equals a plain loop's step, whole or in micro-batches. A skipped batch changes no weight."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from laclip_ray.config import TrainConfig
from laclip_ray.models.building import create_model
from laclip_ray.models.specs import ModelSpec, load_model_spec
from laclip_ray.training.optim import build_optimiser
from laclip_ray.training.step import is_compiled
from tests.unit.training.test_loss import CASES
from tests.unit.training.worlds import (
    Case,
    batch_of,
    build_stepper,
    differences,
    losses_of_both_loops,
    take_step,
    whole_step,
    write_model,
)


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def spec(model_path: str) -> ModelSpec:
    return load_model_spec(model_path)


@pytest.mark.parametrize("case", [case for case in CASES if not case.local])
@pytest.mark.parametrize("micro_batch_size", [1, 5])
def test_micro_batches_give_the_step_of_the_whole_batch(case: Case, micro_batch_size: int, model_path: str) -> None:
    in_parts = whole_step(model_path, replace(case, micro_batch_size=micro_batch_size))
    assert max(differences(whole_step(model_path, case), [in_parts]).values()) <= 1e-5


@pytest.mark.parametrize(
    ("case", "options", "tolerance"),
    [
        # Compiled code sums in an order that depends on the processor: 1.2e-5 was seen. Compiling takes 20 s.
        pytest.param(Case(compiled=True), {}, 5e-5, marks=pytest.mark.long),
        (Case(), {"gradient_checkpointing": True}, 1e-6),
        (Case(), {"channels_last": True}, 1e-5),
    ],
)
def test_options_for_speed_or_memory_do_not_change_the_step(
    case: Case, options: dict[str, Any], tolerance: float, model_path: str
) -> None:
    step = take_step(model_path, case, slice(None), **options)
    assert max(differences(whole_step(model_path, Case()), [step]).values()) <= tolerance


@pytest.mark.parametrize("compiler", [True, False])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_model_is_compiled_by_default_on_a_gpu_with_a_compiler(
    compiler: bool, device: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    (tmp_path / "Python.h").touch()
    monkeypatch.setattr("sysconfig.get_path", lambda _name, _scheme: str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}" if compiler else None)
    assert is_compiled(TrainConfig(), torch.device(device)) == (compiler and device == "cuda")
    assert ("no C++ compiler" in caplog.text) == (not compiler and device == "cuda")


def test_a_step_in_bf16_goes_in_the_direction_of_one_in_fp32(model_path: str) -> None:
    fp32, bf16 = whole_step(model_path, Case()), take_step(model_path, Case(), slice(None), precision="bf16")
    expected, change = (torch.cat([part.flatten() for part in step.changes.values()]) for step in (fp32, bf16))
    assert fp32.loss != bf16.loss
    assert fp32.loss == pytest.approx(bf16.loss, rel=0.005)
    assert float((expected - change).norm() / expected.norm()) < 0.05


def test_both_passes_of_a_micro_batch_drop_the_same_patches(spec: ModelSpec) -> None:
    vision = {**spec.model_cfg["vision_cfg"], "patch_dropout": 0.5}
    spec = replace(spec, model_cfg={**spec.model_cfg, "vision_cfg": vision})
    train = TrainConfig(micro_batch_size=4, batch_size=12)
    model = create_model(spec, 0)
    stepper = build_stepper(model, spec, Case(), torch.optim.SGD(model.parameters(), 0.0), train)
    seen: list[torch.Tensor] = []
    hook = model.visual.transformer.register_forward_hook(  # type: ignore[union-attr]
        lambda _module, inputs, _outputs: seen.append(inputs[0].detach().clone())
    )
    stepper.step(batch_of(1), 0)
    hook.remove()
    first, second = seen[: len(seen) // 2], seen[len(seen) // 2 :]
    assert len(first) == 3
    assert all(map(torch.equal, first, second))


def test_fifty_steps_equal_a_loop_with_open_clips_loss_and_torchs_optimiser(model_path: str) -> None:
    for ours, theirs in losses_of_both_loops(model_path, steps=50):
        assert ours == pytest.approx(theirs, abs=1e-5)


@pytest.mark.parametrize("micro_batch_size", [None, 4])
def test_a_skipped_batch_with_a_non_finite_loss_changes_no_weight(
    micro_batch_size: int | None, spec: ModelSpec
) -> None:
    model = create_model(spec, 0)
    train = TrainConfig(batch_size=12, on_non_finite_loss="skip", micro_batch_size=micro_batch_size)
    stepper = build_stepper(model, spec, Case(), build_optimiser(model, train), train)
    stepper.step(batch_of(1), 0)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    embedding = model.token_embedding.weight  # type: ignore[union-attr]
    assert isinstance(embedding, torch.Tensor)
    batch = batch_of(1)
    with torch.no_grad():
        embedding[500] = float("nan")
    batch["tokens"][3, 0, 2] = 500
    loss, is_trained = stepper.step(batch, 1)
    assert not torch.isfinite(loss)
    assert not is_trained
    with torch.no_grad():
        embedding[500] = before["token_embedding.weight"][500]
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
    other = batch_of(1, seed=9)
    other["tokens"] %= 500
    assert stepper.step(other, 2)[1]


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), 1e30])
def test_a_weight_that_is_not_finite_or_far_too_large_is_noticed(value: float, spec: ModelSpec) -> None:
    model = create_model(spec, 0)
    train = TrainConfig(batch_size=12)
    stepper = build_stepper(model, spec, Case(), build_optimiser(model, train), train)
    assert stepper.has_finite_weights
    with torch.no_grad():
        model.get_parameter("text_projection")[3, 4] = value
    assert not stepper.has_finite_weights
