"""How a trained model is evaluated."""

from typing import Annotated

from pydantic import Field, model_validator

from laclip_ray.config.data import DataConfig
from laclip_ray.config.fields import CaptionChoice, EqualCaptions, PositiveInt, Probability, Section
from laclip_ray.config.markers import InputPath, OutputPath, SharedBySweep, is_clip_directory, is_file

DatasetName = Annotated[str, Field(min_length=1)]


class ZeroShotConfig(Section):
    """A labelled dataset for zero-shot classification, in CLIP_benchmark's WebDataset layout.

    Images are not turned by their EXIF orientation, because CLIP_benchmark does not.
    """

    name: DatasetName
    """Names the dataset in results. No other dataset of `zero_shot` has the name."""
    path: Annotated[str, InputPath()]
    """Directory with `classnames.txt`, the prompt templates and one subdirectory for each split."""
    split: str = "test"
    """The split to measure on."""


class RetrievalDataConfig(DataConfig):
    """Where the captioned images of a retrieval set are and how to read them."""

    captions: CaptionChoice = "all"
    """Captions of an image, of a list or of the lines of a WebDataset caption. `all`: each is one. `first`: the first
    one. Rows of one image (the same path, URL or bytes) are joined in any case."""


class RetrievalConfig(Section):
    """Captioned images for retrieval in both directions. An image may have any number of captions."""

    name: DatasetName
    """Names the dataset in results. No other dataset of `retrieval` has the name."""
    data: RetrievalDataConfig
    """The shards."""
    max_samples: PositiveInt | None = None
    """Use only the first images, this many, with the captions in the rows up to the last of them. None: all."""
    equal_captions: EqualCaptions = "auto"
    """Whether a caption that another image has too is a right answer (`match`) or a wrong one (`differ`, as in
    CLIP_benchmark). `auto`: `differ` if most images have several captions, and for CLIP_benchmark's retrieval sets, as
    the literature measures them; else `match`, because alt-texts repeat."""


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

    @model_validator(mode="after")
    def _names_differ(self) -> "EvaluateConfig":
        for key, datasets in (("zero_shot", self.zero_shot), ("retrieval", self.retrieval)):
            names = [dataset.name for dataset in datasets]
            if repeated := [name for name in names if names.count(name) > 1]:
                raise ValueError(
                    f"evaluate.{key}: {names.count(repeated[0])} datasets have the name {repeated[0]!r}, so one result "
                    "would replace another; give each a name of its own"
                )
        return self
