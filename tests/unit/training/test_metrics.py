"""The console lines of a training run."""

from typing import Any

from laclip_ray.training.metrics import console_line

ROW: dict[str, Any] = {
    "step": 8,
    "epoch": 1.25,
    "loss": 2.5,
    "p": 0.8,
    "p_effective": 0.5,
    "fallbacks": {"no_accepted_rewrite": 0, "not_rewritten": 30},
    "images_per_s": 99.6,
    "waiting_share": 0.02,
}


def test_a_line_says_why_the_effective_p_is_lower_than_requested() -> None:
    assert console_line(ROW) == (
        "step 8  epoch 1.25  loss 2.5000  p 0.8 (effective 0.500, 30 not rewritten)  100 images/s  waiting 2%"
    )


def test_a_line_of_skipped_batches_has_no_loss() -> None:
    assert "loss none" in console_line(ROW | {"loss": None})


def test_a_line_beside_rewriting_shows_its_progress_and_this_epochs_texts() -> None:
    beside = {
        "rewritten_shards": 6,
        "shards_to_rewrite": 24,
        "rewrites_per_s": 12.4,
        "lag_shards": 18,
        "p_effective_in_epoch": 0.6,
        "late_share_in_epoch": 0.25,
    }
    assert console_line(ROW | beside).endswith(
        "rewritten 6 of 24 shards, 12 rewrites/s, lag 18 shards; this epoch: effective p 0.600, 25% late"
    )
