"""The loss over several processes."""

from pathlib import Path

from tests.integration.procedures import gloo_differences


def test_two_processes_give_the_loss_and_gradients_of_one(tmp_path: Path) -> None:
    assert max(gloo_differences(tmp_path).values()) <= 1e-5
