"""Export a model for others: a directory to publish, for example on the Hugging Face Hub.

It holds weights, configuration, a model card and `lineage.json`. The layout `open_clip` takes every model. The layout
`hugging_face` is `transformers.CLIPModel` with its processor; it takes models with open_clip's own vision transformer
and refuses others.

Guarantees: values are kept bit for bit. The target must be empty, and the configuration is written to it last.
"""

import posixpath
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from laclip_ray import ownership, storage
from laclip_ray.config import ModelLayout
from laclip_ray.errors import UserError
from laclip_ray.models import paper_models
from laclip_ray.models.files import CONFIG_FILE, LINEAGE_FILE, MODEL_FILE, STATE_FILE
from laclip_ray.models.specs import ModelSpec, load_model_spec
from laclip_ray.models.transformers_layout import write_transformers

CARD_FILE = "README.md"

_TIMM_FILE = "config.json"
"""timm reads the description of an image tower here; transformers' configuration has the same name."""

_CARD = """---
library_name: {library}
pipeline_tag: zero-shot-image-classification
tags:
- clip
---

# {title}

```python
{code}
```

`lineage.json` says what this model was made from.
"""

_OPEN_CLIP_CODE = """import open_clip

model, transform = open_clip.create_model_from_pretrained("{home}")
tokenizer = open_clip.get_tokenizer("{home}")"""

_PAPER_MODEL_CODE = "import laclip_ray.models.paper_models  # open_clip does not know the image tower without it\n"

_TRANSFORMERS_CODE = """from transformers import CLIPModel, CLIPProcessor

model = CLIPModel.from_pretrained("PATH OR NAME")
processor = CLIPProcessor.from_pretrained("PATH OR NAME")"""


def export_checkpoint(source: str, target: str, layout: ModelLayout = "open_clip", home: str | None = None) -> bool:
    """Write a model for others, with a model card and its lineage.

    Args:
        source: a directory or URL in open_clip's layout: a run's export or one of its checkpoints, or an import.
        target: a new or empty directory or URL.
        layout: `open_clip`, or `hugging_face` for transformers.
        home: where the export will be loaded from, `hf-hub:ORGANISATION/NAME` or `local-dir:/PATH`; only for
            open_clip's layout. A paper's model with a home is loaded by open_clip alone. Without one, users import
            `laclip_ray.models.paper_models` first.

    Returns:
        Whether the source's lineage was found.

    Raises:
        UserError: the target is not empty, the source holds no model in open_clip's layout, or the layout has no place
            for the model. Nothing was written.
    """
    ownership.check_empty(target)
    _check_source(source)
    if home is not None and (layout != "open_clip" or not re.fullmatch(r"hf-hub:[^/]+/[^/]+|local-dir:/.+", home)):
        raise UserError(
            f"--home {home}: is for --layout open_clip, and is hf-hub:ORGANISATION/NAME or local-dir:/ABSOLUTE/PATH"
        )
    spec = load_model_spec(storage.join(source, CONFIG_FILE), "SOURCE")
    lineage = _lineage_of(source)
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        weights = directory / MODEL_FILE
        weights.write_bytes(storage.read_bytes(storage.join(source, MODEL_FILE)))
        if layout == "open_clip":
            library, code = "open_clip", _write_open_clip_config(directory, spec, home, source)
        else:
            write_transformers(directory, spec, load_file(weights), source)
            weights.unlink()
            library, code = "transformers", _TRANSFORMERS_CODE
        card = _CARD.format(library=library, title=storage.name_of(home or target), code=code)
        (directory / CARD_FILE).write_text(card, encoding="utf-8")
        content = {"exported_from": source.rstrip("/"), "layout": layout, "source": lineage}
        storage.write_json(str(directory / LINEAGE_FILE), content)
        storage.copy_directory(scratch, target)
    return lineage is not None


def _check_source(source: str) -> None:
    """Refuse a source without a model in open_clip's layout."""
    for name in (CONFIG_FILE, MODEL_FILE):
        if not storage.exists(storage.join(source, name)):
            raise UserError(
                f"{source}: has no {name}; give a run's `export`, a checkpoint directory, or the target of "
                "`laclip checkpoint import`"
            )


def _write_open_clip_config(directory: Path, spec: ModelSpec, home: str | None, source: str) -> str:
    """Write open_clip's configuration, and timm's for a paper's model with a home; return the code that loads it."""
    config = spec.to_json()
    vision = config["model_cfg"]["vision_cfg"]
    timm_file = storage.join(source, _TIMM_FILE)
    if storage.exists(timm_file):  # the source is an export for another home, whose name it has
        vision["timm_model_name"] = paper_models.described_by(storage.read_json(timm_file)) or vision["timm_model_name"]
    paper_model = paper_models.paper_model_of(config["model_cfg"])
    code = _OPEN_CLIP_CODE.format(home=home or "local-dir:PATH")
    if paper_model is not None and home is not None:
        vision["timm_model_name"] = home
        storage.write_json(str(directory / _TIMM_FILE), paper_models.timm_config(paper_model))
    elif paper_model is not None:
        code = _PAPER_MODEL_CODE + code
    storage.write_json(str(directory / CONFIG_FILE), config)
    return code


def _lineage_of(source: str) -> Any:
    """The lineage of an export, a checkpoint or an import; None without one."""
    # The lineage of a run's export is in the summary beside it.
    summary_file = storage.join(posixpath.dirname(source.rstrip("/")) or ".", "summary.json")
    readers: dict[str, Callable[[Any], Any]] = {
        storage.join(source, LINEAGE_FILE): lambda content: content,
        storage.join(source, STATE_FILE): lambda content: _lineage_at(content["step"], content),
        summary_file: lambda content: _lineage_at(content["steps"], content) if _exported(content) == name else None,
    }
    name = storage.name_of(source)
    for url, read in readers.items():
        if storage.exists(url):
            remedy = "Restore it from a copy, or remove it: then the copy has no lineage."
            return storage.read_state(url, "the lineage of this model", remedy, read)
    return None


def _lineage_at(step: int, content: Mapping[str, Any]) -> dict[str, Any]:
    return {"step": step, "samples": content["samples"], **content["lineage"]}


def _exported(summary: Mapping[str, Any]) -> str:
    return storage.name_of(summary.get("export", ""))
