"""Read a checkpoint file, a pickle of torch's or safetensors, without running code in it.

Guarantees: torch reads pickles with `weights_only`. Objects that checkpoints hold beside tensors and plain values (the
run's arguments, numpy's numbers) become placeholders. A file with any other object is refused.

Not covered: TorchScript archives, which hold code, are refused.
"""

import contextlib
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from laclip_ray.errors import UserError
from laclip_ray.tally import first_names


class _Placeholder:
    """Stands for an object that a checkpoint holds beside tensors and plain values; keeps no content."""

    def __init__(self, *parts: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


# The run's arguments, and the learning rate: open_clip and the authors compute it with numpy (1.x then, hence two
# names).
_PLACEHOLDERS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (_Placeholder, name)
    for name in (
        "argparse.Namespace",
        "numpy.core.multiarray.scalar",
        "numpy._core.multiarray.scalar",
        "numpy.dtype",
    )
]


@contextlib.contextmanager
def placeholders(source: str) -> Iterator[None]:
    """Let torch read pickles with placeholders inside this context; it must read them with `weights_only`.

    Raises:
        UserError: a pickle holds an object foreign to checkpoints, or code. It names `source`.
    """
    try:
        with torch.serialization.safe_globals(_PLACEHOLDERS):
            yield
    except (pickle.UnpicklingError, RuntimeError) as error:
        if foreign := re.search(r"GLOBAL (\S+)", str(error)):
            raise UserError(
                f"{source}: holds {foreign[1]}, which is no part of a checkpoint (tensors, plain values, the arguments "
                "of a run); nothing of it was run"
            ) from error
        if "TorchScript" in str(error):
            raise UserError(
                f"{source}: is a TorchScript archive, which holds code, and is not read; save its `state_dict()` with "
                "torch.save"
            ) from error
        raise


def read_checkpoint(path: Path, source: str) -> Mapping[str, Any]:
    """The content of a checkpoint file; tensors are mapped from disk if its format allows.

    Args:
        path: the file. The suffix `.safetensors` decides its format.
        source: the file's origin, for messages.

    Raises:
        UserError: the file is damaged or no mapping, or `placeholders` refuses it.
    """
    if path.suffix == ".safetensors":
        return _read_safetensors(path, source)
    try:
        with placeholders(source):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except UserError:
        raise
    except Exception as error:  # torch does not say which errors its readers raise
        raise UserError(f"{source}: is not a PyTorch checkpoint ({type(error).__name__})") from error
    if not isinstance(content, Mapping):
        raise UserError(f"{source}: is not a checkpoint but a {type(content).__name__}")
    return content


def _read_safetensors(path: Path, source: str) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights: dict[str, torch.Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{source}: is not a safetensors file ({type(error).__name__})") from error
    return weights


def state_dict_of(content: Mapping[str, Any], source: str) -> dict[str, torch.Tensor]:
    """The weights in the content of a checkpoint by name, without the prefix of distributed training.

    Raises:
        UserError: there are none.
    """
    weights = content.get("state_dict", content)
    if (
        not isinstance(weights, Mapping)
        or not weights
        or not all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in weights.items())
    ):
        keys = first_names(str(key) for key in content) or "nothing"
        raise UserError(f"{source}: is not a model's checkpoint: it has no `state_dict` of tensors, but {keys}")
    prefix = "module." if all(name.startswith("module.") for name in weights) else ""
    return {name.removeprefix(prefix): value for name, value in weights.items()}
