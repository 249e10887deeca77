"""How a trained model is evaluated."""

from typing import Annotated

from laclip_ray.config.data import DataConfig
from laclip_ray.config.fields import PositiveInt, Probability, Section
from laclip_ray.config.markers import InputPath, OutputPath, SharedBySweep, is_clip_directory, is_file


class ZeroShotConfig(Section):
    """A labelled dataset for zero-shot classification, in CLIP_benchmark's WebDataset layout."""

    name: str
    """Names the dataset in results."""
    path: Annotated[str, InputPath()]
    """Directory with `classnames.txt`, the prompt templates and one subdirectory for each split."""
    split: str = "test"
    """The split to measure on."""


class RetrievalConfig(Section):
    """Captioned images for retrieval in both directions."""

    name: str
    """Names the dataset in results."""
    data: DataConfig
    """The shards."""
    max_samples: PositiveInt | None = None
    """Use only the first samples, this many. None: all."""


class EvaluateConfig(Section):
    """How a trained model is evaluated."""

    checkpoint: Annotated[str | None, InputPath(is_clip_directory, is_name_if="pretrained")] = None
    """The model: a directory or URL in open_clip's layout (with or without `local-dir:`), `hf-hub:ORGANISATION/NAME`,
    or an open_clip name. None: the model that training with this config exports."""
    pretrained: Annotated[str | None, InputPath(is_file)] = None
    """Weights of an open_clip name in `checkpoint`: open_clip's tag, or a checkpoint file."""
    output: Annotated[str | None, OutputPath()] = None
    """Directory or URL of `results.json`. None: `evaluate` under `output`."""
    batch_size: PositiveInt = 128
    """Images or texts that the model encodes together."""
    max_skipped: Probability = 0.01
    """Largest share of a dataset's samples that may be skipped. Above it the dataset has no result."""
    zero_shot: Annotated[list[ZeroShotConfig], SharedBySweep()] = []
    """Datasets for zero-shot classification."""
    retrieval: Annotated[list[RetrievalConfig], SharedBySweep()] = []
    """Datasets for image-to-text and text-to-image retrieval."""
