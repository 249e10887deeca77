"""The paper's models have the parts, the size and the first weights of its authors' code."""

import importlib
import math
import warnings
from typing import Any

import open_clip
import pytest
import timm
import torch

from laclip_ray.config import TrainConfig
from laclip_ray.data.images import ImageSpec
from laclip_ray.data.tokens import load_clip_tokenizer, tokenizer_spec
from laclip_ray.errors import UserError
from laclip_ray.models import paper_models
from laclip_ray.models.building import clamp_logit_scale, create_model
from laclip_ray.models.specs import load_model_spec
from laclip_ray.training.optim import build_optimiser

NAMES = paper_models.NAMES


def without_memory(name: str) -> Any:
    with torch.device("meta"):
        return create_model(load_model_spec(name), seed=0)


@pytest.fixture(scope="module")
def small() -> Any:
    return create_model(load_model_spec("laclip_vit_s16"), seed=0)


@pytest.mark.parametrize(
    ("name", "millions"), [("laclip_vit_s16", 85.3), ("laclip_vit_b16", 149.6), ("laclip_vit_l16", 367.3)]
)
def test_parameters_are_as_many_as_the_papers(name: str, millions: float) -> None:
    parameters = sum(parameter.numel() for parameter in without_memory(name).parameters())
    assert round(parameters / 1e6, 1) == millions


@pytest.mark.parametrize(
    ("name", "width", "depth", "heads"),
    [("laclip_vit_s16", 384, 12, 12), ("laclip_vit_b16", 768, 12, 12), ("laclip_vit_l16", 1024, 24, 16)],
)
def test_the_image_tower_is_the_papers(name: str, width: int, depth: int, heads: int) -> None:
    tower = without_memory(name).visual
    assert (tower.trunk.embed_dim, len(tower.trunk.blocks), tower.trunk.patch_embed.patch_size) == (
        width,
        depth,
        (16, 16),
    )
    assert tower.trunk.global_pool == "token"
    assert {type(block.mlp.act) for block in tower.trunk.blocks} == {torch.nn.GELU}
    for block in tower.trunk.blocks:
        assert block.attn.num_heads == heads
        for norm in (block.attn.q_norm, block.attn.k_norm):
            assert isinstance(norm, torch.nn.LayerNorm)
            assert (norm.normalized_shape, norm.eps) == ((width // heads,), 1e-6)
    assert tower.head.proj.weight.shape == (512, width)
    assert tower.head.proj.bias is None


@pytest.mark.parametrize("name", NAMES)
def test_the_text_tower_is_the_papers(name: str) -> None:
    model = without_memory(name)
    assert len(model.transformer.resblocks) == 12
    assert model.positional_embedding.shape == (77, 512)
    assert model.text_projection.shape == (512, 512)
    for block in model.transformer.resblocks:
        assert block.attn.num_heads == 8
        assert isinstance(block.mlp.gelu, open_clip.model.QuickGELU)


@pytest.mark.parametrize("name", NAMES)
def test_images_are_those_of_the_authors_code(name: str) -> None:
    image = ImageSpec(224, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert load_model_spec(name).image == image


@pytest.mark.parametrize("name", NAMES)
def test_texts_are_tokenised_as_clip_does(name: str) -> None:
    texts = ["a photo of a dog", "", "dog " * 100]
    assert torch.equal(
        load_clip_tokenizer(tokenizer_spec(name))(texts), open_clip.SimpleTokenizer(context_length=77)(texts)
    )


def test_first_weights_of_the_image_tower_are_drawn_as_the_authors_code_draws_them(small: Any) -> None:
    trunk = small.visual.trunk
    for block in trunk.blocks:
        for linear in (block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2):
            bound = linear.in_features**-0.5  # torch's own: uniform, bias as well
            for values in (linear.weight, linear.bias):
                assert values.abs().max() <= bound
                assert values.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)
    for values in (trunk.cls_token, trunk.pos_embed):
        assert values.std().item() == pytest.approx(0.02, rel=0.1)
    assert small.visual.head.proj.weight.std().item() == pytest.approx(384**-0.5, rel=0.02)
    for norm in (trunk.norm, trunk.blocks[3].norm1, trunk.blocks[3].attn.q_norm):
        assert torch.equal(norm.weight, torch.ones_like(norm.weight))
        assert not norm.bias.any()


def test_first_weights_of_the_text_tower_are_drawn_as_the_authors_code_draws_them(small: Any) -> None:
    deviations = {
        small.token_embedding.weight: 0.02,
        small.positional_embedding: 0.01,
        small.text_projection: 512**-0.5,
    }
    for block in small.transformer.resblocks:
        deviations[block.attn.in_proj_weight] = 512**-0.5
        deviations[block.attn.out_proj.weight] = 512**-0.5 * 24**-0.5
        deviations[block.mlp.c_fc.weight] = 1024**-0.5
        deviations[block.mlp.c_proj.weight] = 512**-0.5 * 24**-0.5
    for values, deviation in deviations.items():
        assert values.std().item() == pytest.approx(deviation, rel=0.02)
        assert values.mean().item() == pytest.approx(0, abs=deviation / 20)


def test_first_weights_follow_from_the_seed_alone(small: Any) -> None:
    torch.rand(3)
    again = create_model(load_model_spec("laclip_vit_s16"), seed=0).state_dict()
    assert all(torch.equal(values, again[name]) for name, values in small.state_dict().items())


def test_the_temperature_begins_at_0_07_and_ends_at_0_01(small: Any) -> None:
    assert small.logit_scale.exp().item() == pytest.approx(1 / 0.07)
    clamped = torch.nn.Module()
    clamped.logit_scale = torch.nn.Parameter(torch.tensor(9.0))
    clamp_logit_scale(clamped)
    assert clamped.logit_scale.exp().item() == pytest.approx(100)


def test_decayed_parameters_are_those_of_the_authors_code() -> None:
    model = without_memory("laclip_vit_s16")
    theirs = {
        name
        for name, parameter in model.named_parameters()
        if parameter.ndim >= 2 and not any(mark in in_authors_keys(name) for mark in ("bias", "ln", "bn"))
    }
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, free = build_optimiser(model, TrainConfig(weight_decay=0.5)).param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.5, 0.0)
    assert {names[id(parameter)] for parameter in decayed["params"]} == theirs
    assert {names[id(parameter)] for parameter in free["params"]} == {*names.values()} - theirs


def in_authors_keys(name: str) -> str:
    return {"visual.head.proj.weight": "image_projection"}.get(name, name.replace("visual.trunk.", "visual."))


def test_timm_keeps_the_towers_when_the_module_is_loaded_again() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        importlib.reload(paper_models)
    assert all(timm.is_model(name) for name in NAMES)


def test_a_misspelt_name_is_refused_with_similar_names() -> None:
    with pytest.raises(UserError, match=r"similar: .*laclip_vit_b16"):
        load_model_spec("laclip_vit_b32")
