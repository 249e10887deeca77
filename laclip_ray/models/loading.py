"""Load a CLIP model for inference: the one loader of the project."""

import tempfile
from pathlib import Path
from typing import Any

from laclip_ray import storage
from laclip_ray.models.files import CONFIG_FILE, MODEL_FILE

HUB_PREFIX = "hf-hub:"


def load_model(location: str, device: Any) -> tuple[Any, Any, Any]:
    """(model in evaluation mode, transform, tokeniser) of a directory, a URL, or a model on the hub."""
    import open_clip

    import laclip_ray.models.paper_models  # noqa: F401 - timm knows the paper's image towers by it

    with tempfile.TemporaryDirectory() as directory:
        name = location
        if not location.startswith(HUB_PREFIX):
            for file in (CONFIG_FILE, MODEL_FILE):
                (Path(directory) / file).write_bytes(storage.read_bytes(storage.join(location, file)))
            name = f"local-dir:{directory}"
        model, transform = open_clip.create_model_from_pretrained(name, device=device)
        return model.eval(), transform, open_clip.get_tokenizer(name)
