"""The models that a config names: are they here, or can they be fetched?"""

import os
from pathlib import Path

from laclip_ray.config import DEMO_REWRITER, MeaningGateConfig, RewriteConfig
from laclip_ray.doctor.results import Finding, failed, passed, skipped
from laclip_ray.errors import UserError

_RAY_ADDRESS = "RAY_ADDRESS"
_MODEL_REMEDY = "Correct rewrite.model, connect to the hub (HF_ENDPOINT, HF_TOKEN), or give a directory"
ON_NODES = "it is looked up on the nodes of the cluster"


def check_language_model(rewrite: RewriteConfig) -> Finding:
    """Whether the language model can be loaded where this process runs; a directory needs its config."""
    if rewrite.model is None:
        return skipped("rewrite.model is not set, so nothing is rewritten")
    if rewrite.model == DEMO_REWRITER:
        return passed(f"{DEMO_REWRITER} comes with the package")
    if os.environ.get(_RAY_ADDRESS):
        return skipped(ON_NODES)
    problem = model_problem(rewrite.model, rewrite.revision)
    if problem is not None:
        return failed(problem, _MODEL_REMEDY)
    return passed(f"{rewrite.model} is a directory with a model, or known to the hub")


def model_problem(model: str, revision: str | None) -> str | None:
    """Why a language model cannot be loaded on this machine, as its config shows; None if it can.

    Args:
        model: a name of the hub, or a directory.
        revision: of the model on the hub.
    """
    from laclip_ray.models.hub import look_up

    if model.startswith((".", "/", "~")) and not (Path(model) / "config.json").is_file():
        return f"rewrite.model: {model} is not a directory with a model (no config.json)"
    try:
        look_up(model, revision)
    except UserError as error:
        return str(error)
    return None


def check_sentence_encoder(meaning: MeaningGateConfig | None, rewrites: bool) -> Finding:
    """Whether the gate's sentence encoder can be loaded.

    Args:
        meaning: the section `rewrite.gate.meaning`.
        rewrites: whether anything is rewritten.
    """
    from laclip_ray.models.hub import check_encoder

    if meaning is None or not rewrites:
        return skipped("no sentence encoder is used")
    if os.environ.get(_RAY_ADDRESS):
        return skipped(ON_NODES)
    check_encoder(meaning)
    return passed(f"{meaning.model} is a directory with a model, or known to the hub")


def check_clip(name: str) -> Finding:
    """Whether the CLIP model is known."""
    from laclip_ray.models.specs import load_model_spec

    load_model_spec(name)
    return passed(f"{name} is known")
