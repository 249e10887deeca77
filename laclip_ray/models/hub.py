"""Models of the hub are looked up before Ray starts; without a network, an engine tries for minutes."""

import os
import re
from pathlib import Path

from laclip_ray.config import MeaningGateConfig
from laclip_ray.errors import UserError

ENCODER_SETTING = "rewrite.gate.meaning"
_ENCODER_FILE = "modules.json"
"""Names the modules of a sentence-transformers model."""
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def check_hub_model(model: str, revision: str | None, section: str = "rewrite") -> None:
    """Refuse a model's name that the hub does not know, or that cannot be looked up.

    Only where the model will run on this machine: on a cluster, only the models' nodes need the network or the cache.

    Args:
        model: a name of the hub, or a directory.
        revision: a branch, tag or commit of the model. None: the default branch.
        section: the config section of `model` and `revision`, for messages.

    Raises:
        UserError: with the reason. If the hub is out of reach, that is its cause.
    """
    if not os.environ.get("RAY_ADDRESS"):
        look_up(model, revision, section)


def look_up(model: str, revision: str | None, section: str = "rewrite") -> None:
    """`check_hub_model` for a model that this machine loads, also as a node of a cluster."""
    if os.environ.get("VLLM_USE_MODELSCOPE") or not _HUB_NAME.fullmatch(model) or Path(model).is_dir():
        return
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        hf_hub_download(model, "config.json", revision=revision)
    except GatedRepoError as error:
        raise UserError(
            f"{section}.model: {model!r} may not be read; accept its conditions on the hub, and set HF_TOKEN"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise UserError(f"{section}.model: the hub has no model {model!r}; a private one needs HF_TOKEN") from error
    except RevisionNotFoundError as error:
        raise UserError(f"{section}.revision: {model!r} has no revision {revision!r}") from error
    except LocalEntryNotFoundError as error:
        raise UserError(f"{section}.model: {model!r} is not in the cache, and the hub is out of reach") from error
    except EntryNotFoundError:
        return  # vLLM knows layouts without this file
    except OSError as error:
        raise UserError(
            f"{section}.model: {model!r} cannot be looked up ({type(error).__name__}: {error}); download it and give a "
            "directory"
        ) from error


def check_encoder(meaning: MeaningGateConfig) -> None:
    """Refuse a sentence encoder that does not exist, as `check_hub_model` does; a path must be a model's directory.

    Raises:
        UserError: with the reason.
    """
    model = meaning.model
    if Path(model).is_dir() and not (Path(model) / _ENCODER_FILE).is_file():
        raise UserError(
            f"{ENCODER_SETTING}.model: {model} has no {_ENCODER_FILE}, so it is no sentence-transformers model"
        )
    if model.startswith((".", "/")) and not Path(model).is_dir():
        raise UserError(f"{ENCODER_SETTING}.model: there is no directory {model}")
    check_hub_model(model, meaning.revision, ENCODER_SETTING)
