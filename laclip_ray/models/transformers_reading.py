"""Read models that transformers wrote as `CLIPModel`, with their image preprocessing, as open_clip's models.

    config.json                                         architecture; `model_type` is `clip`
    model.safetensors or pytorch_model.bin              weights
    preprocessor_config.json or processor_config.json   image preprocessing; without one, CLIP's own
    vocab.json or tokenizer.json                        compared with CLIP's vocabulary, where there is one

Guarantees: the model computes the same function. A configuration, weights or preprocessing that open_clip cannot
express are refused. No code of the model runs. Names and meaning of the parts are from transformers 5 (models/clip)
and open_clip 3.3 (model.py).

Not covered: weights in several files (`*.index.json`). Pixels differ slightly from transformers' default processor,
which resizes tensors. Texts are cleaned as open_clip does, which repairs broken characters and HTML entities too.
"""

import json
import logging
import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from laclip_ray.errors import UserError
from laclip_ray.models.checkpoint_files import read_checkpoint, state_dict_of
from laclip_ray.models.fetching import Fetch
from laclip_ray.models.files import TRANSFORMERS_CONFIG, TRANSFORMERS_WEIGHTS
from laclip_ray.models.recognition import differences, meta_model
from laclip_ray.models.specs import ModelSpec
from laclip_ray.models.transformers_layout import TRANSPOSED, clip_vocabulary, names_in_transformers
from laclip_ray.tally import first_names

logger = logging.getLogger(__name__)

_ACTIVATIONS = {"quick_gelu": True, "gelu": False}
"""transformers' activations, and open_clip's `quick_gelu`."""

_INTERPOLATIONS = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of filters, and open_clip's names."""

_POSITIONS = ".position_ids"
"""End of the names of numbers that transformers before 4.31 stored with the weights: 0, 1, 2 and so on."""


@dataclass(frozen=True)
class TransformersModel:
    """A model of transformers as open_clip's."""

    spec: ModelSpec
    weights: dict[str, torch.Tensor]
    """By open_clip's names."""
    resized_px: int | None
    """The shorter side that images are resized to before they are cropped to `spec.image`. None: both are one size, or
    the resize mode of the preprocessing does not crop."""


def read_transformers(fetch: Fetch, source: str) -> TransformersModel:
    """Read a model.

    Args:
        fetch: gives the files of its directory.
        source: its location, for messages.

    Raises:
        UserError: a file is missing or damaged, or open_clip cannot express the model or its preprocessing.
    """
    model_cfg = model_config_of(_read_json(fetch, TRANSFORMERS_CONFIG, source), source)
    _check_vocabulary(fetch, source)
    preprocess_cfg, resized_px = _preprocessing(fetch, model_cfg["vision_cfg"]["image_size"], source)
    spec = ModelSpec(source, model_cfg, preprocess_cfg)
    expected = meta_model(spec).state_dict()
    weights = _open_clip_weights(_read_weights(fetch, source), expected)
    if different := differences(weights, expected):
        raise UserError(f"{source}: weights and {TRANSFORMERS_CONFIG} do not fit: {first_names(different)}")
    return TransformersModel(spec, weights, resized_px)


def _read_weights(fetch: Fetch, source: str) -> dict[str, torch.Tensor]:
    """The weights by transformers' names."""
    for name in TRANSFORMERS_WEIGHTS:
        if path := fetch(name):
            where = f"{source}/{name}"
            return state_dict_of(read_checkpoint(path, where), where)
    raise UserError(without_weights(source))


def without_weights(source: str) -> str:
    """The message that a directory has no weights."""
    return (
        f"{source} has no {' or '.join(TRANSFORMERS_WEIGHTS)}; save the model again with `save_pretrained`, with its "
        "weights in one file"
    )


def model_config_of(config: Any, source: str) -> dict[str, Any]:
    """open_clip's model config of the content of a `config.json`.

    Raises:
        UserError: it is no configuration of `CLIPModel`, or open_clip cannot express it.
    """
    kind = config.get("model_type") if isinstance(config, Mapping) else None
    if kind != "clip":
        raise UserError(
            f"{source}: its {TRANSFORMERS_CONFIG} describes a model of type {kind!r}, and only transformers' CLIPModel "
            "(`clip`) is read; give another model, or this one in open_clip's layout"
        )
    from transformers import CLIPConfig

    try:
        clip = CLIPConfig.from_dict(dict(config))
    except Exception as error:  # transformers checks each field with errors of its own
        reason = textwrap.shorten(str(error), 200, placeholder=" ...")
        raise UserError(f"{source}: {TRANSFORMERS_CONFIG} is not a configuration of CLIPModel: {reason}") from error
    vision, text = clip.vision_config, clip.text_config
    if foreign := _foreign_settings(vision, text):
        raise UserError(
            f"{source}: open_clip has no place for {', '.join(foreign)} of {TRANSFORMERS_CONFIG}, so the model cannot "
            "be evaluated; give another model"
        )
    return {
        "embed_dim": clip.projection_dim,
        "quick_gelu": _ACTIVATIONS[vision.hidden_act],
        "init_logit_scale": clip.logit_scale_init_value,
        "vision_cfg": {
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "head_width": vision.hidden_size // vision.num_attention_heads,
            **_tower(vision),
        },
        "text_cfg": {
            "context_length": text.max_position_embeddings,
            "vocab_size": text.vocab_size,
            "heads": text.num_attention_heads,
            **_tower(text),
        },
    }


def _tower(config: Any) -> dict[str, Any]:
    """The settings that both towers have."""
    ratio = config.intermediate_size / config.hidden_size
    if int(config.hidden_size * ratio) < config.intermediate_size:  # open_clip multiplies, and rounds down
        ratio = math.nextafter(ratio, math.inf)
    tower = {"width": config.hidden_size, "layers": config.num_hidden_layers, "mlp_ratio": ratio}
    return tower if config.layer_norm_eps == 1e-5 else {**tower, "norm_kwargs": {"eps": config.layer_norm_eps}}


def _foreign_settings(vision: Any, text: Any) -> list[str]:
    """The settings of a model that open_clip lacks."""
    from laclip_ray.light_open_clip import open_clip

    tokenizer = open_clip.SimpleTokenizer()
    foreign = []
    if vision.hidden_act not in _ACTIVATIONS or text.hidden_act != vision.hidden_act:
        foreign.append(f"hidden_act ({vision.hidden_act}, {text.hidden_act})")
    if vision.num_channels != 3:
        foreign.append(f"num_channels ({vision.num_channels})")
    foreign += [
        f"{name} ({getattr(vision, name)})"
        for name in ("image_size", "patch_size")
        if not isinstance(getattr(vision, name), int)
    ]
    if text.vocab_size != tokenizer.vocab_size:
        foreign.append(f"vocab_size ({text.vocab_size}; CLIP's own tokeniser has {tokenizer.vocab_size})")
    # 2 is what transformers wrote before 4.31. It means the largest number of a text, as open_clip has it.
    if text.eos_token_id not in (2, tokenizer.eot_token_id):
        foreign.append(f"eos_token_id ({text.eos_token_id})")
    return foreign


def _check_vocabulary(fetch: Fetch, source: str) -> None:
    """Refuse any other tokeniser than CLIP's."""
    from laclip_ray.light_open_clip import open_clip

    for name in ("vocab.json", "tokenizer.json"):
        vocabulary = _read_json(fetch, name, source)
        if vocabulary is None:
            continue
        if name == "tokenizer.json":
            model = vocabulary.get("model") if isinstance(vocabulary, Mapping) else None
            vocabulary = model.get("vocab") if isinstance(model, Mapping) else None
        if vocabulary != clip_vocabulary(open_clip.SimpleTokenizer()):
            raise UserError(
                f"{source}: {name} is not CLIP's vocabulary, and models in transformers' layout are only read with "
                "CLIP's own tokeniser; give this model in open_clip's layout"
            )
        return


def _preprocessing(fetch: Fetch, size_px: int, source: str) -> tuple[dict[str, Any], int | None]:
    """open_clip's image preprocessing, and the shorter side of a resized image, if it is not the crop's."""
    from transformers import CLIPImageProcessor

    from laclip_ray.light_open_clip import open_clip

    name, content = _processor_config(fetch, source)
    if content is None:
        logger.warning(
            "%s has neither preprocessor_config.json nor processor_config.json; its images are prepared as CLIP's "
            "(bicubic, CLIP's mean and deviation)", source,
        )  # fmt: skip
        content = {"size": size_px, "crop_size": size_px}
    kind = content.get("image_processor_type", content.get("feature_extractor_type", "CLIPImageProcessor"))
    if not str(kind).startswith("CLIP"):
        raise UserError(
            f"{source}: {name} is of {kind}, and only CLIP's image preprocessing is read; give another model"
        )
    try:
        processor: Any = CLIPImageProcessor.from_dict(dict(content))
        mean, std = ([float(value) for value in values] for values in (processor.image_mean, processor.image_std))
    except Exception as error:  # transformers does not say which errors its readers of settings raise
        reason = textwrap.shorten(str(error), 200, placeholder=" ...")
        raise UserError(f"{source}: {name} is damaged: {reason}") from error
    size, crop = processor.size, processor.crop_size
    crops = processor.do_center_crop and (crop.height, crop.width) == (size_px, size_px)
    squashes = processor.do_resize and (size.height, size.width) == (size_px, size_px) and not size.shortest_edge
    shortest = size.shortest_edge if processor.do_resize and crops and not size.longest_edge else None
    is_scaled = processor.do_rescale and math.isclose(processor.rescale_factor, 1 / 255)
    fits = shortest is not None or (squashes and (crops or not processor.do_center_crop))
    if not (fits and is_scaled and processor.resample in _INTERPOLATIONS and len(mean) == len(std) == 3):
        raise UserError(
            f"{source}: {name} has another preprocessing than bicubic or bilinear resizing to {size_px} pixels, values "
            "from 0 to 1 and three channels; correct the file, or give another model"
        )
    if not processor.do_normalize:
        mean, std = [0.0] * 3, [1.0] * 3
    changes = {"mean": mean, "std": std, "interpolation": _INTERPOLATIONS[processor.resample]}
    mode = {"resize_mode": "squash" if shortest is None else "shortest"}
    transform = open_clip.transform
    preprocess_cfg = transform.merge_preprocess_dict(transform.PreprocessCfg(size=size_px), {**changes, **mode})
    return preprocess_cfg, None if shortest in (None, size_px) else shortest


def _processor_config(fetch: Fetch, source: str) -> tuple[str, Mapping[str, Any] | None]:
    """The file that describes image preprocessing, and its settings. None: no such file."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        content = _read_json(fetch, name, source)
        if name == "processor_config.json" and isinstance(content, Mapping):
            content = content.get("image_processor")
        if isinstance(content, Mapping):
            return name, content
    return TRANSFORMERS_CONFIG, None


def _open_clip_weights(
    theirs: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Weights by open_clip's names: those that are there, and what has no such name by transformers' name.

    Args:
        theirs: the weights by transformers' names.
        expected: the names and shapes of the open_clip model's weights.
    """
    weights: dict[str, torch.Tensor] = {}
    used: set[str] = set()
    for name in expected:
        names = names_in_transformers(name)
        if all(part in theirs for part in names):
            used.update(names)
            value = torch.cat([theirs[part] for part in names]) if len(names) > 1 else theirs[names[0]]
            weights[name] = value.T if name in TRANSPOSED else value
    rest = {name: value for name, value in theirs.items() if name not in used and not name.endswith(_POSITIONS)}
    return {**weights, **rest}


def _read_json(fetch: Fetch, name: str, source: str) -> Any:
    """The value of a JSON file; None if there is no such file."""
    path = fetch(name)
    return None if path is None else parse_json(path.read_bytes(), name, source)


def parse_json(content: bytes, name: str, source: str) -> Any:
    """The value of a JSON file of a model's directory.

    Raises:
        UserError: it is not JSON.
    """
    try:
        return json.loads(content)
    except ValueError as error:
        raise UserError(f"{source}: {name} is damaged ({error}); write or download it again") from error
