"""Load a CLIP model for inference, with its image transform and its tokeniser.

A model is one of

    ViT-B-32                    an open_clip name; `pretrained` is open_clip's tag of the weights, or a checkpoint file
    hf-hub:ORGANISATION/NAME    a repository on the Hugging Face Hub
    DIRECTORY or URL            a directory in open_clip's layout, such as `laclip train` exports
    local-dir:DIRECTORY         the same, in open_clip's spelling

Guarantees: pickled weights are read with `weights_only`, which runs no code from the file. The paper's models load as
all others do. A directory at a URL is copied with every file that open_clip may read, including a tokeniser's files.

Not covered: whether the hub has a repository is known only when it is downloaded.
"""

import contextlib
import difflib
import posixpath
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laclip_ray import storage
from laclip_ray.config.markers import DIRECTORY_PREFIX, HUB_PREFIX
from laclip_ray.errors import UserError
from laclip_ray.models.files import CONFIG_FILE

if TYPE_CHECKING:
    import torch
    from PIL import Image

_WEIGHTS = (".safetensors", ".bin", ".pth")
"""Suffixes of the files that open_clip takes for weights in a directory."""

_NOT_READ = ".pt"
"""Suffix of files that open_clip never reads in a directory; the optimiser's state in a training checkpoint has it."""


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
    import open_clip

    import laclip_ray.models.paper_models  # noqa: F401 - registers the paper's image towers with timm

    try:
        with _open_clip_name(model) as name:
            clip, transform = open_clip.create_model_from_pretrained(name, pretrained, device=device, weights_only=True)
            return LoadedModel(clip.eval(), transform, open_clip.get_tokenizer(name))
    except Exception as error:  # open_clip does not say which errors its readers of files raise
        raise UserError(f"{setting}: {describe_model(model, pretrained)} cannot be loaded: {error}") from error


def check_model(model: str, pretrained: str | None, setting: str) -> None:
    """Refuse a model that cannot be loaded, without loading or downloading anything.

    Args:
        model: see the top of this module.
        pretrained: the weights of an open_clip name; None for all other models.
        setting: the config key of `model`, for messages. That of `pretrained` is `pretrained` in the same section.

    Raises:
        UserError: open_clip does not know the name or the tag, no weights are named, or a directory holds no model.
    """
    import open_clip

    pretrained_setting = f"{setting.rpartition('.')[0]}.pretrained"
    if model in open_clip.list_models():
        _check_weights(model, pretrained, pretrained_setting)
    elif pretrained is not None:
        raise UserError(
            f"{pretrained_setting}: is for open_clip's own names, and {model!r} is none{_similar_names(model)}; "
            f"directories and {HUB_PREFIX} models bring their weights"
        )
    elif not model.startswith(HUB_PREFIX):
        _check_directory(model, setting)


def describe_model(model: str, pretrained: str | None) -> str:
    """The model and its weights, for messages and results."""
    return model if pretrained is None else f"{model} with {pretrained}"


def _check_weights(model: str, pretrained: str | None, setting: str) -> None:
    """Refuse weights that an open_clip name does not have."""
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(model)
    choices = f"a checkpoint file, or one of {', '.join(tags)}" if tags else "a checkpoint file"
    if pretrained is None:
        raise UserError(f"{setting}: {model} has no weights without it; give {choices}")
    if not open_clip.is_pretrained_cfg(model, pretrained) and not Path(pretrained).is_file():
        raise UserError(f"{setting}: {pretrained!r} is neither a file nor a tag of open_clip's {model}; give {choices}")


def _check_directory(model: str, setting: str) -> None:
    """Refuse a directory without a model."""
    directory = model.removeprefix(DIRECTORY_PREFIX)
    try:
        has_config = storage.exists(storage.join(directory, CONFIG_FILE))
    except UserError as error:
        raise UserError(f"{setting}: {error}") from error
    if not has_config:
        raise UserError(
            f"{setting}: open_clip knows no model {model!r}, and there is no {CONFIG_FILE} in a directory of that "
            f"name{_similar_names(model)}; give an open_clip name, {HUB_PREFIX}ORGANISATION/NAME, or a directory in "
            "open_clip's layout, such as `laclip train` exports"
        )
    if not any(url.endswith(_WEIGHTS) for url in _files_in(directory)):
        raise UserError(
            f"{setting}: {directory} has no weights ({', '.join(f'*{suffix}' for suffix in _WEIGHTS)}); give a "
            "directory in open_clip's layout, such as `laclip train` exports"
        )


def _similar_names(model: str) -> str:
    import open_clip

    names = difflib.get_close_matches(model, open_clip.list_models(), n=6, cutoff=0.4)
    return f" (similar: {', '.join(names)})" if names else ""


def _files_in(directory: str) -> list[str]:
    """URLs of the files directly in a directory."""
    path = storage.filesystem(directory)[1].rstrip("/")
    return [url for url in storage.list_files(directory) if posixpath.dirname(storage.filesystem(url)[1]) == path]


@contextlib.contextmanager
def _open_clip_name(model: str) -> Iterator[str]:
    """Name a model as open_clip loads it inside this context; copy a directory at a URL to this machine."""
    import open_clip

    if model in open_clip.list_models() or model.startswith(HUB_PREFIX):
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
