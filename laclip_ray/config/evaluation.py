"""What a trained model is measured on."""

from laclip_ray.config.data import DataConfig
from laclip_ray.config.fields import PositiveInt, Section


class ZeroShotConfig(Section):
    """A labelled set in CLIP_benchmark's WebDataset layout."""

    name: str
    path: str
    """The directory that holds `classnames.txt`, the templates and the split directories."""
    split: str = "test"


class RetrievalConfig(Section):
    """Captioned shards to search in."""

    name: str
    data: DataConfig
    max_samples: PositiveInt | None = None
    """The first so many samples; None: all."""


class EvaluateConfig(Section):
    """What a trained model is measured on."""

    checkpoint: str | None = None
    """A directory or URL in open_clip's layout (`local-dir:` before it is allowed), `hf-hub:ORGANISATION/NAME`, or an
    open_clip name. None: the export of training with this config."""
    pretrained: str | None = None
    """Weights of an open_clip name in `checkpoint`: open_clip's tag, or a checkpoint file."""
    output: str | None = None
    """Where `results.json` goes. None: `evaluate` under `output`."""
    batch_size: PositiveInt = 128
    zero_shot: list[ZeroShotConfig] = []
    retrieval: list[RetrievalConfig] = []
