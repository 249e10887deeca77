"""open_clip's own training: `python -m tests.figures.training_peers MODEL_JSON NOTES ARGUMENTS`, once a rank.

The environment says which rank, as torchrun would. The first process notes when each step ended.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import open_clip
from open_clip_train.main import main  # type: ignore[import-untyped]
from torch.optim.optimizer import register_optimizer_step_post_hook

if __name__ == "__main__":
    model_path, notes, *arguments = sys.argv[1:]
    times: list[float] = []

    def note(*_: Any) -> None:
        """Called after a step."""
        times.append(time.time())

    register_optimizer_step_post_hook(note)
    open_clip.add_model_config(model_path)
    main(arguments)
    if os.environ["RANK"] == "0":
        Path(notes).write_text(json.dumps(times))
