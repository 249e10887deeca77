"""Ray Train's register of checkpoints, as Ray Train writes it."""

from pathlib import Path

from laclip_ray.training.paths import RunPaths
from laclip_ray.training.register import REGISTER_FILE


def register(paths: RunPaths, names: list[str]) -> None:
    """Write Ray Train's register of these checkpoints."""
    from ray.train.v2._internal.execution.checkpoint.checkpoint_manager import _CheckpointManagerState

    results = [{"checkpoint_dir_name": name, "metrics": {"step": 1, "loss": 2.0}} for name in names]
    content = _CheckpointManagerState(
        checkpoint_results=results,
        checkpoint_report_indices=list(range(len(names))),
        latest_checkpoint_result=results[-1] if results else None,
        pending_training_results=[],
        pending_validation_specs=[],
        current_report_index=len(names),
        validated_checkpoint_dir_names=[],
        timed_out_validation_checkpoint_dir_names=[],
        failed_validation_checkpoint_dir_names=[],
    )
    Path(paths.ray_run, REGISTER_FILE).write_text(content.model_dump_json())
