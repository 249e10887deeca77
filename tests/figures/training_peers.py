"""open_clip's own training: `python -m tests.figures.training_peers MODEL_JSON NOTES ARGUMENTS`, once a rank.

The environment says which rank, as torchrun would. The first process notes when each step ended.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip_train import data  # type: ignore[import-untyped]
from open_clip_train.main import main  # type: ignore[import-untyped]
from torch.optim.optimizer import register_optimizer_step_post_hook

if __name__ == "__main__":
    model_path, notes, *arguments = sys.argv[1:]
    times: list[float] = []

    def note(*_: Any) -> None:
        """Called after a step."""
        times.append(time.time())

    def on_cpu(model: torch.nn.Module, device_ids: Any = None, **options: Any) -> torch.nn.Module:
        """DDP without `device_ids`, which open_clip gives also on a CPU, where torch refuses them."""
        return distributed(model, **options)

    def files_only(*arguments: Any, **options: Any) -> Iterator[dict[str, Any]]:
        """The tar's files, without the mark of its end, which WebDataset 1.0 has and open_clip does not expect."""
        return (each for each in expand(*arguments, **options) if "fname" in each)

    expand = data.tar_file_expander
    setattr(data, "tar_file_expander", files_only)  # noqa: B010 - for this process alone
    distributed = torch.nn.parallel.DistributedDataParallel
    setattr(torch.nn.parallel, "DistributedDataParallel", on_cpu)  # noqa: B010 - for this process alone
    register_optimizer_step_post_hook(note)
    open_clip.add_model_config(model_path)
    main(arguments)
    if os.environ["RANK"] == "0":
        Path(notes).write_text(json.dumps(times))
