"""Load a CLIP model for inference, with its image transform and its tokeniser.

A model is one of

    ViT-B-32                    an open_clip name; `pretrained` is open_clip's tag of the weights, or a checkpoint file
    FILE                        a checkpoint file (`WEIGHTS_SUFFIXES`); the shapes of its weights name the model
    DIRECTORY                   a directory in open_clip's layout, such as `laclip train` exports, or in transformers'
                                layout of `CLIPModel`
    local-dir:DIRECTORY         the same, in open_clip's spelling
    hf-hub:ORGANISATION/NAME    a repository on the Hugging Face Hub, in either layout

Files and directories are paths or URLs. A weights file beside the config of its directory stands for the directory.

Guarantees: pickled weights are read with `weights_only`, which runs no code from the file. The paper's models load as
all others do. A directory at a URL is copied with every file that open_clip may read, including a tokeniser's files.

Not covered: whether the hub has a repository, and whether a file has a known model's shapes, is known only when it is
downloaded.
"""

import contextlib
import logging
import posixpath
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laclip_ray import storage
from laclip_ray.config.markers import DIRECTORY_PREFIX, HUB_PREFIX, WEIGHTS_SUFFIXES
from laclip_ray.errors import UserError
from laclip_ray.models.fetching import is_checkpoint_file, local_file, model_files
from laclip_ray.models.files import CONFIG_FILE, MODEL_FILE, TRANSFORMERS_CONFIG, TRANSFORMERS_WEIGHTS
from laclip_ray.nearest import similar

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from laclip_ray.models.specs import ModelSpec

logger = logging.getLogger(__name__)

_WEIGHTS = (".safetensors", ".bin", ".pth")
"""Suffixes of the files that open_clip takes for weights in a directory."""

_NOT_READ = ".pt"
"""Suffix of files that open_clip never reads in a directory; the optimiser's state in a training checkpoint has it."""

_CONFIG_BESIDE = {
    MODEL_FILE: CONFIG_FILE,
    "open_clip_pytorch_model.bin": CONFIG_FILE,
    **dict.fromkeys(TRANSFORMERS_WEIGHTS, TRANSFORMERS_CONFIG),
}
"""Weights files of model directories, and the configs that describe their models."""

_SUFFIXES = ", ".join(f"*{suffix}" for suffix in WEIGHTS_SUFFIXES)


@dataclass(frozen=True)
class LoadedModel:
    """A CLIP model in evaluation mode, and the functions that prepare its input."""

    model: Any
    """open_clip's model: `encode_image` and `encode_text`."""
    transform: "Callable[[Image.Image], torch.Tensor]"
    """An image to pixels [3, H, W]."""
    tokenizer: "Callable[[Sequence[str]], torch.Tensor]"
    """N texts to tokens [N, L]."""


def load_model(model: str, pretrained: str | None, device: "torch.device", setting: str) -> LoadedModel:
    """Load a model onto a device.

    Args:
        model: see the top of this module.
        pretrained: the weights of an open_clip name; None for all other models.
        device: the device for its weights.
        setting: the config key of `model`, for messages.

    Raises:
        UserError: `check_model` refuses the model, or it cannot be loaded.
    """
    check_model(model, pretrained, setting)
    try:
        return _load(_directory_of(model, setting), pretrained, device)
    except UserError as error:
        raise UserError(f"{setting}: {error}") from error
    except Exception as error:  # open_clip does not say which errors its readers of files raise
        reason = _in_short(error)
        raise UserError(f"{setting}: {describe_model(model, pretrained)} cannot be loaded: {reason}") from error


def check_model(model: str, pretrained: str | None, setting: str) -> None:
    """Refuse a model that cannot be loaded, without loading or downloading anything but a directory's config.

    Args:
        model: see the top of this module.
        pretrained: the weights of an open_clip name; None for all other models.
        setting: the config key of `model`, for messages. That of `pretrained` is `pretrained` in the same section.

    Raises:
        UserError: open_clip does not know the name or the tag, no weights are named, there is no such file, or a
            directory holds no model.
    """
    from laclip_ray.light_open_clip import open_clip

    pretrained_setting = f"{setting.rpartition('.')[0]}.pretrained"
    if model in open_clip.list_models():
        _check_weights(model, pretrained, pretrained_setting)
    elif pretrained is not None:
        raise UserError(
            f"{pretrained_setting}: is for open_clip's own names, and {model!r} is none{_similar_names(model)}; "
            f"files, directories and {HUB_PREFIX} models bring their weights"
        )
    elif is_checkpoint_file(model):
        if not _is_file(model, setting):
            raise UserError(f"{setting}: there is no file {model}; give the path or URL of a checkpoint")
        if (directory := _directory_of(model, setting)) != model:
            _check_directory(directory, setting)
    elif not model.startswith(HUB_PREFIX):
        _check_directory(model, setting)


def describe_model(model: str, pretrained: str | None) -> str:
    """The model and its weights, for messages and results."""
    return model if pretrained is None else f"{model} with {pretrained}"


def _check_weights(model: str, pretrained: str | None, setting: str) -> None:
    """Refuse weights that an open_clip name does not have."""
    from laclip_ray.light_open_clip import open_clip

    tags = open_clip.list_pretrained_tags_by_model(model)
    choices = f"a checkpoint file, or one of {', '.join(tags)}" if tags else "a checkpoint file"
    if pretrained is None:
        raise UserError(f"{setting}: {model} has no weights without it; give {choices}")
    if not open_clip.is_pretrained_cfg(model, pretrained) and not _is_file(pretrained, setting):
        raise UserError(f"{setting}: {pretrained!r} is neither a file nor a tag of open_clip's {model}; give {choices}")


def _check_directory(model: str, setting: str) -> None:
    """Refuse a directory without a model."""
    directory = model.removeprefix(DIRECTORY_PREFIX)
    if _is_file(storage.join(directory, CONFIG_FILE), setting):
        if not any(url.endswith(_WEIGHTS) for url in _files_in(directory)):
            raise UserError(
                f"{setting}: {directory} has no weights ({', '.join(f'*{suffix}' for suffix in _WEIGHTS)}); give a "
                "directory in open_clip's layout, such as `laclip train` exports"
            )
    elif _is_file(storage.join(directory, TRANSFORMERS_CONFIG), setting):
        _check_transformers(directory, setting)
    elif storage.is_local(directory) and _is_file(directory, setting):
        raise UserError(f"{setting}: {directory} has no suffix of a checkpoint ({_SUFFIXES}); rename the file")
    else:
        raise UserError(
            f"{setting}: open_clip knows no model {model!r}, and there is no {CONFIG_FILE} or {TRANSFORMERS_CONFIG} in "
            f"a directory of that name{_similar_names(model)}; give an open_clip name, {HUB_PREFIX}ORGANISATION/NAME, "
            f"a checkpoint file ({_SUFFIXES}), or a directory in open_clip's or transformers' layout, such as "
            "`laclip train` exports"
        )


def _check_transformers(directory: str, setting: str) -> None:
    """Refuse a directory in transformers' layout whose model open_clip cannot express, or that has no weights."""
    from laclip_ray.models.transformers_reading import model_config_of, parse_json, without_weights

    content = storage.read_bytes(storage.join(directory, TRANSFORMERS_CONFIG))
    try:
        model_config_of(parse_json(content, TRANSFORMERS_CONFIG, directory), directory)
    except UserError as error:
        raise UserError(f"{setting}: {error}") from error
    if not any(_is_file(storage.join(directory, name), setting) for name in TRANSFORMERS_WEIGHTS):
        raise UserError(f"{setting}: {without_weights(directory)}")


def _is_file(location: str, setting: str) -> bool:
    """Whether there is a file at a path or URL.

    Raises:
        UserError: its file system cannot be asked.
    """
    try:
        if storage.is_local(location):
            return Path(storage.filesystem(location)[1]).is_file()
        return storage.exists(location)  # `isdir` of web addresses would read the file
    except UserError as error:
        raise UserError(f"{setting}: {error}") from error
    except Exception as error:  # each of fsspec's file systems has errors of its own
        raise UserError(f"{setting}: {location} cannot be looked up: {_in_short(error)}") from error


def _in_short(error: Exception) -> str:
    """The error in one line."""
    return textwrap.shorten(str(error), 500, placeholder=" ...") or type(error).__name__


def _similar_names(model: str) -> str:
    from laclip_ray.light_open_clip import open_clip

    names = similar(model, open_clip.list_models())
    return f" (similar: {', '.join(names)})" if names else ""


def _files_in(directory: str) -> list[str]:
    """URLs of the files directly in a directory."""
    path = storage.filesystem(directory)[1].rstrip("/")
    return [url for url in storage.list_files(directory) if posixpath.dirname(storage.filesystem(url)[1]) == path]


def _directory_of(model: str, setting: str) -> str:
    """The directory of a weights file beside the config of its model; other models unchanged.

    The config says what weights do not tell, such as the activation.
    """
    config = _CONFIG_BESIDE.get(storage.name_of(model))
    if config is None or not is_checkpoint_file(model):
        return model
    directory = model.rpartition("/")[0] or "."
    return directory if _is_file(storage.join(directory, config), setting) else model


def _load(model: str, pretrained: str | None, device: "torch.device") -> LoadedModel:
    """Load a model that `check_model` has accepted."""
    from laclip_ray.light_open_clip import open_clip

    if model in open_clip.list_models():
        assert pretrained is not None
        if open_clip.is_pretrained_cfg(model, pretrained):
            return _load_by_open_clip(model, pretrained, device, describe_model(model, pretrained))
        with local_file(pretrained) as path:
            return _load_by_open_clip(model, str(path), device, pretrained)
    if is_checkpoint_file(model):
        return _load_file(model, device)
    with model_files(model) as fetch:
        if fetch(CONFIG_FILE) is None and fetch(TRANSFORMERS_CONFIG) is not None:
            from laclip_ray.models.transformers_reading import read_transformers

            read = read_transformers(fetch, model)
            return _build(read.spec, read.weights, device, read.resized_px)
    with _open_clip_name(model) as name:
        return _load_by_open_clip(name, None, device, model)


def _load_by_open_clip(name: str, pretrained: str | None, device: "torch.device", source: str) -> LoadedModel:
    """Load what open_clip itself loads; `source` names it in messages."""
    import laclip_ray.models.paper_models  # noqa: F401 - registers the paper's image towers with timm
    from laclip_ray.light_open_clip import open_clip
    from laclip_ray.models.checkpoint_files import placeholders

    with placeholders(source):
        clip, transform = open_clip.create_model_from_pretrained(name, pretrained, device=device, weights_only=True)
    return LoadedModel(clip.eval(), transform, open_clip.get_tokenizer(name))


def _load_file(location: str, device: "torch.device") -> LoadedModel:
    """Load a checkpoint file, whose model is found by the shapes of its weights."""
    from laclip_ray.models.checkpoint_files import read_checkpoint, state_dict_of
    from laclip_ray.models.recognition import find_model, lookalike, with_open_clip_names

    with local_file(location) as path:
        theirs = state_dict_of(read_checkpoint(path, location), location)
        if any(name.startswith("vision_model.") for name in theirs):
            raise UserError(
                f"{location}: has the names of transformers' CLIPModel, and no {TRANSFORMERS_CONFIG} beside it; give a "
                "directory that has both"
            )
        weights, layout = with_open_clip_names(theirs)
        remedy = (
            "give an open_clip name, with this file as `pretrained`, or import it with `laclip checkpoint import` and "
            "--model"
        )
        spec, _ = find_model(weights, layout, None, location, remedy)
        loaded = _build(spec, weights, device)
    if other := lookalike(spec.name):
        logger.warning(
            "%s: %s was found by the shapes of its weights, and %s has the same ones; if the file holds that model, "
            "give %s as the model, with the file as `pretrained`", location, spec.name, other, other,
        )  # fmt: skip
    return loaded


def _build(
    spec: "ModelSpec", weights: "dict[str, torch.Tensor]", device: "torch.device", resized_px: int | None = None
) -> LoadedModel:
    """Build a model of CLIP's own tokens from its weights, in float32.

    Args:
        spec: the model.
        weights: exactly its weights, in any type.
        device: the device for them.
        resized_px: the shorter side that images are resized to; None: as `spec` says.
    """
    from torchvision.transforms import Compose, Resize

    from laclip_ray.light_open_clip import open_clip
    from laclip_ray.models.building import create_model

    model: Any = create_model(spec, seed=0)
    model.load_state_dict(weights)
    model.output_dict = False
    preprocess = open_clip.transform.PreprocessCfg(**spec.preprocess_cfg)
    transform = open_clip.transform.image_transform_v2(preprocess, is_train=False)
    if resized_px is not None:
        resize, *steps = transform.transforms
        transform = Compose([Resize(resized_px, resize.interpolation), *steps])
    tokenizer = open_clip.SimpleTokenizer(context_length=spec.model_cfg["text_cfg"]["context_length"])
    return LoadedModel(model.to(device).eval(), transform, tokenizer)


@contextlib.contextmanager
def _open_clip_name(model: str) -> Iterator[str]:
    """Name a model as open_clip loads it inside this context; copy a directory at a URL to this machine."""
    if model.startswith(HUB_PREFIX):
        yield model
        return
    directory = model.removeprefix(DIRECTORY_PREFIX)
    if storage.is_local(directory):
        yield f"{DIRECTORY_PREFIX}{storage.filesystem(directory)[1]}"
        return
    with tempfile.TemporaryDirectory() as copy:
        for url in _files_in(directory):
            if not url.endswith(_NOT_READ):
                fs, path = storage.filesystem(url)
                fs.get_file(path, str(Path(copy) / storage.name_of(url)))
        yield f"{DIRECTORY_PREFIX}{copy}"
