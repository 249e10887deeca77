"""How a trained model is evaluated."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from laclip_ray.config.data import DataConfig
from laclip_ray.config.fields import CaptionChoice, EqualCaptions, PositiveInt, Probability, Section, WorkerRange
from laclip_ray.config.markers import InputPath, OutputPath, SharedBySweep, is_clip_path, is_none_of, is_weights_file

DatasetName = Annotated[str, Field(min_length=1)]


class LinearProbeConfig(Section):
    """A linear classifier on frozen image features."""

    protocol: Literal["standard", "lgssl"] = "standard"
    """`standard`: standardised features, squared norm, 45 values of C. `lgssl`: the paper's (raw features, unsquared
    norm, coarse then fine values)."""
    features: Literal["backbone", "embedding"] = "backbone"
    """Input of the classifier: the image tower's output before its projection, or the embedding."""


class FewShotConfig(Section):
    """Episodes of a few classes with a few labelled images each; the nearest class mean decides."""

    episodes: PositiveInt = 5_000
    """Number of episodes. An episode is a function of (seed, number), the same for every checkpoint."""
    ways: PositiveInt = 5
    """Classes of an episode."""
    shots: PositiveInt = 5
    """Labelled images of each class."""
    queries: PositiveInt = 6
    """Images of each class to classify."""
    features: Literal["backbone", "embedding"] = "backbone"
    """Features to compare."""


class KShotConfig(Section):
    """Linear probes on a few training images of each class."""

    shots: Annotated[list[PositiveInt], Field(min_length=1)] = [1, 2, 4, 8, 16]
    """Training images of each class; one probe for each number."""
    draws: PositiveInt = 3
    """Random choices of the training images; the accuracy is their mean."""
    features: Literal["backbone", "embedding"] = "backbone"
    """Input of the classifiers."""


class NeighboursConfig(Section):
    """Classification by the most similar training images."""

    neighbours: PositiveInt = 20
    """Training images that vote, each weighted by its similarity."""
    features: Literal["backbone", "embedding"] = "backbone"
    """Features to compare."""


class LabelledConfig(Section):
    """A labelled data set and the protocols to measure on it.

    Images are not turned by their EXIF orientation, because CLIP_benchmark does not.
    """

    name: DatasetName
    """Names the dataset in results. No other dataset of `labelled` has the name."""
    path: Annotated[str, InputPath()]
    """Directory or URL of the set, or its address on the Hugging Face Hub (`hf://datasets/ORGANISATION/NAME`, or the
    address of a `/tree/` page)."""
    layout: Literal["auto", "webdataset", "folders", "parquet", "csv"] = "auto"
    """`webdataset`: CLIP_benchmark's tars; `folders`: a directory a class; `parquet`: Hugging Face files with a class
    label column; `csv`: a table that names image files and labels. `auto`: by the files in the directory."""
    split: str = "test"
    """The split to measure on."""
    train_split: str | None = None
    """Training images of probes, few-shot classes and neighbours. None: only zero-shot can be measured."""
    val_split: str | None = None
    """Images that choose the strength of a probe's penalty. None: a fifth of each class of the training images."""
    class_names: Annotated[str | None, InputPath(is_none_of("imagenet"), travels=True)] = None
    """`imagenet` (open_clip's names), or a file with a class a line, several names of a class separated by tabs. None:
    the set's own."""
    templates: Annotated[str | None, InputPath(is_none_of("openai", "simple"), travels=True)] = None
    """`openai` (80) or `simple` (7), open_clip's for ImageNet; or a file with a template a line, `{c}` or `{}` for the
    class name. `FILE.json#KEY`: the list under KEY. None: the set's own."""
    classes: Annotated[str | None, InputPath(travels=True)] = None
    """A file of ImageNet's classes, one a line: the set has only these classes, its labels in this order. A line holds
    the class's WordNet id, or several ids that count as one class. One word before the ids is the label that the set's
    images have for the class: `alarm_clock n02708093 n03196217`. Lines that begin with `#` are comments. A comment
    behind the ids is refused, and so is a blank line between classes. None: all classes."""
    metric: Literal["top1", "mean_per_class", "map"] = "top1"
    """The set's own metric, which averages over sets take. `map`: images have several labels."""
    image_column: str | None = None
    """Column of the image in Parquet and CSV. None: `image`, or the only column of pictures."""
    label_column: str | None = None
    """Column of the label in Parquet and CSV. None: `label`, else `cls`, else `fine_label`."""
    expected: dict[str, PositiveInt] = {}
    """Images that each split must have. Another number is refused."""
    zero_shot: bool = True
    """Whether to measure zero-shot classification."""
    linear_probe: LinearProbeConfig | None = None
    """Measure a linear probe. None: do not."""
    few_shot: FewShotConfig | None = None
    """Measure few-shot classification; the labelled images of an episode are from `train_split`, or without one from
    `split` too. None: do not."""
    k_shot: KShotConfig | None = None
    """Measure probes on a few images a class. None: do not."""
    neighbours: NeighboursConfig | None = None
    """Measure nearest neighbours. None: do not."""
    wording: bool = False
    """Measure how predictions change with the template."""

    @property
    def splits(self) -> list[str]:
        """The splits to read, each once."""
        wanted = [self.split]
        if self.train_split and (self.linear_probe or self.k_shot or self.neighbours or self.few_shot):
            wanted.append(self.train_split)
        if self.val_split and (self.linear_probe or self.k_shot):
            wanted.append(self.val_split)
        return list(dict.fromkeys(wanted))

    @model_validator(mode="after")
    def _has_training_images(self) -> "LabelledConfig":
        for key in ("linear_probe", "k_shot", "neighbours"):
            if getattr(self, key) is not None and self.train_split is None:
                raise ValueError(f"{key}: needs training images; set train_split")
        if self.train_split == self.split and self.train_split is not None:
            raise ValueError(
                f"train_split: {self.split!r} is also split, so a probe would be tested on what it was trained on; "
                "give another split"
            )
        if self.val_split is not None and self.val_split in (self.split, self.train_split):
            raise ValueError(f"val_split: {self.val_split!r} is used twice; give a split of its own, or none")
        return self

    @model_validator(mode="after")
    def _measures_something(self) -> "LabelledConfig":
        if not (self.zero_shot or self.linear_probe or self.few_shot or self.k_shot or self.neighbours or self.wording):
            raise ValueError(f"{self.name}: nothing to measure; set zero_shot, linear_probe, few_shot or another")
        if self.metric == "map" and (self.few_shot or self.k_shot or self.neighbours or self.wording):
            raise ValueError(
                "metric: map is for images with several labels; few_shot, k_shot, neighbours and wording need one "
                "label an image. Remove these, or choose another metric"
            )
        return self


class RetrievalDataConfig(DataConfig):
    """Where the captioned images of a retrieval set are and how to read them."""

    captions: CaptionChoice = "all"
    """Captions of an image, of a list or of the lines of a WebDataset caption. `all`: each is one. `first`: the first
    one. Rows of one image (the same path, URL or bytes) are joined in any case."""


class WordingConfig(Section):
    """Retrieval with other words for the same pictures, and with captions that say something else."""

    rewrites: Annotated[str | None, InputPath()] = None
    """Rewrite set of these captions (a directory of `rewrite.output`) by a prompt set that training did not see. None:
    captions are not replaced."""
    hard_negatives: bool = True
    """Make wrong captions of each caption: objects, attributes or numbers are exchanged."""


class RetrievalConfig(Section):
    """Captioned images for retrieval in both directions. An image may have any number of captions."""

    name: DatasetName
    """Names the dataset in results. No other dataset of `retrieval` has the name."""
    data: RetrievalDataConfig | None = None
    """The shards. Required without `held_out`."""
    held_out: bool = False
    """Measure the held-out samples of the training data (`data.held_out`), with the captions that training reads."""
    max_samples: PositiveInt | None = None
    """Number of images to use: the first ones, with the captions in the rows up to the last of them. None: all."""
    wording: WordingConfig | None = None
    """Measure robustness to wording on this set. None: do not."""
    equal_captions: EqualCaptions = "auto"
    """Whether a caption that another image has too is a right answer (`match`) or a wrong one (`differ`, as in
    CLIP_benchmark). `auto`: `differ` if most images have several captions, and for CLIP_benchmark's retrieval sets, as
    the literature measures them; else `match`, because alt-texts repeat."""

    @model_validator(mode="after")
    def _has_one_source(self) -> "RetrievalConfig":
        if self.held_out and self.data is not None:
            raise ValueError(f"{self.name}: held_out reads the training data, and data names another; give one of them")
        if not self.held_out and self.data is None:
            raise ValueError(f"{self.name}: data is missing; give it, or held_out: true")
        if self.data is not None and self.data.held_out:
            raise ValueError(f"{self.name}: data.held_out only concerns training data; remove it here")
        return self

    def of_training(self, training: DataConfig) -> "RetrievalConfig":
        """The set, with the training data as its `data` if it is the held-out samples."""
        if not self.held_out:
            return self
        return self.model_copy(update={"data": RetrievalDataConfig.model_validate(training.model_dump())})


class SugarCrepeConfig(Section):
    """SugarCrepe's or SugarCrepe++'s examples: captions of COCO's images, with wrong captions checked by people."""

    name: DatasetName
    """Names the dataset in results. No other dataset of `sugar_crepe` has the name."""
    path: Annotated[str, InputPath()]
    """The published annotation files: a directory of `KIND.json`, or one file."""
    images: Annotated[str, InputPath()]
    """Directory or URL of COCO's images (val2017)."""


class OtherModelConfig(Section):
    """A further model to measure."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    """Names the directory of its results below the output."""
    checkpoint: Annotated[str, InputPath(is_clip_path, is_name_if="pretrained")]
    """The model, as in `evaluate.checkpoint`."""
    pretrained: Annotated[str | None, InputPath(is_weights_file)] = None
    """Weights of an open_clip name, as in `evaluate.pretrained`."""


class DuringConfig(Section):
    """Evaluation while `laclip train` or `laclip run` trains."""

    every_epochs: PositiveInt = 1
    """Epochs between evaluations; a multiple of `train.export_every_epochs`, if that is set. The last epoch always has
    one."""


class EvaluateConfig(Section):
    """How a trained model is evaluated."""

    checkpoint: Annotated[str | None, InputPath(is_clip_path, is_name_if="pretrained")] = None
    """The model: a directory in open_clip's layout (with or without `local-dir:`) or in transformers' layout of
    `CLIPModel`, a checkpoint file (`*.pt`, `*.pth`, `*.pth.tar`, `*.bin`, `*.safetensors`), `hf-hub:ORGANISATION/NAME`,
    or an open_clip name. Directories and files are paths or URLs. None: the model that training with this config
    exports."""
    pretrained: Annotated[str | None, InputPath(is_weights_file)] = None
    """Weights of an open_clip name in `checkpoint`: open_clip's tag, or the path or URL of a checkpoint file."""
    others: list[OtherModelConfig] = []
    """Further models to measure on the same sets, which are read once for all."""
    output: Annotated[str | None, OutputPath()] = None
    """Directory or URL of `results.json`. None: `evaluate` under `output`."""
    batch_size: PositiveInt = 128
    """Images or texts that the model encodes together."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the model. Features are stored as float32 with either."""
    features: Annotated[str | None, OutputPath()] = None
    """Directory or URL of the features, which later evaluations of the same models and pictures read. None: `features`
    under the output."""
    encoders: WorkerRange = WorkerRange()
    """Processes that encode, each with a GPU if the cluster has any."""
    bootstrap: PositiveInt = 1_000
    """Resamples of the images for a 95 % interval."""
    max_skipped: Probability = 0.01
    """Largest share of a dataset's samples that may be skipped. Above it the dataset has no result."""
    during: DuringConfig | None = None
    """Measure the sets while training runs, where a core is free. None: do not."""
    labelled: Annotated[list[LabelledConfig], SharedBySweep()] = []
    """Labelled datasets: zero-shot classification, probes, few-shot."""
    retrieval: Annotated[list[RetrievalConfig], SharedBySweep()] = []
    """Datasets for image-to-text and text-to-image retrieval."""
    sugar_crepe: Annotated[list[SugarCrepeConfig], SharedBySweep()] = []
    """Examples that tell whether a model reads the words of captions."""

    @model_validator(mode="after")
    def _names_differ(self) -> "EvaluateConfig":
        named: dict[str, tuple[str, list[str]]] = {
            "labelled": ("datasets", [dataset.name for dataset in self.labelled]),
            "retrieval": ("datasets", [dataset.name for dataset in self.retrieval]),
            "sugar_crepe": ("datasets", [dataset.name for dataset in self.sugar_crepe]),
            "others": ("models", [model.name for model in self.others]),
        }
        for key, (kind, names) in named.items():
            if repeated := [name for name in names if names.count(name) > 1]:
                raise ValueError(
                    f"evaluate.{key}: {names.count(repeated[0])} {kind} have the name {repeated[0]!r}, so one result "
                    "would replace another; give each a name of its own"
                )
        return self
