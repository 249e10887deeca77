"""Recipes and fingerprints change with everything that decides what is written or accepted, and with nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from laclip_ray import storage
from laclip_ray.config import GateConfig, PictureGateConfig, RewriteConfig, SamplingConfig
from laclip_ray.rewriting.recipe import fingerprint_of, gate_fingerprint
from tests.unit.rewriting.shards import recipe

characters = st.characters(codec="utf-8")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(characters),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(characters), inner, max_size=3),
    max_leaves=8,
)
json_objects = st.dictionaries(st.text(characters), json_values, max_size=5)


@given(content=json_objects)
def test_a_fingerprint_survives_json_and_the_order_of_keys(content: dict[str, Any]) -> None:
    reordered = dict(reversed(list(content.items())))
    assert fingerprint_of(json.loads(json.dumps(reordered))) == fingerprint_of(content)


@given(first=json_objects, second=json_objects)
def test_different_contents_have_different_fingerprints(first: dict[str, Any], second: dict[str, Any]) -> None:
    same = json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    assert (fingerprint_of(first) == fingerprint_of(second)) == same


@given(content=json_objects, key=st.text(characters), value=json_values)
def test_any_change_of_a_value_changes_the_fingerprint(content: dict[str, Any], key: str, value: object) -> None:
    assume(key not in content or json.dumps(content[key], sort_keys=True) != json.dumps(value, sort_keys=True))
    assert fingerprint_of({**content, key: value}) != fingerprint_of(content)


def test_every_setting_of_a_gate_changes_its_fingerprint() -> None:
    defaults = GateConfig().model_dump()
    changed = {name: not value if isinstance(value, bool) else (value or 0) + 1 for name, value in defaults.items()}
    changed["picture"] = PictureGateConfig(model="ViT-B-32", pretrained="openai")
    found = {gate_fingerprint(GateConfig(**{**defaults, name: value})) for name, value in changed.items()}
    assert len({gate_fingerprint(GateConfig()), *found}) == len(defaults) + 1
    assert gate_fingerprint(GateConfig(**defaults)) == gate_fingerprint(GateConfig())


DECIDES: dict[str, list[Any]] = {
    "model": ["org/other"],
    "revision": ["v2"],
    "mode": ["chat"],
    "template": ["reference"],
    "heads": [8],
    "max_caption_characters": [9],
    "sampling": [SamplingConfig(temperature=0.5), SamplingConfig(top_p=0.5), SamplingConfig(max_tokens=9)],
}
"""Settings that change what the model writes, each with other values than the default."""
DOES_NOT_DECIDE: dict[str, Any] = {
    "delivery": "inline",
    "output": "elsewhere",
    "prompt_sets": ["human"],
    "rewrites_per_set": 5,
    "redraws": 3,
    "engine": {"shards_in_flight": 9, "tensor_parallel_size": 2, "args": {"max_model_len": 512}},
    "gate": {"min_words": 0},
    "max_engine_deaths": 9,
    "price": "a price",
    "prices": "prices.yaml",
    "budget": {"gpu_hours": 1.0},
}


def test_every_setting_of_rewriting_is_known_to_decide_what_is_written_or_not_to() -> None:
    assert {*DECIDES, *DOES_NOT_DECIDE} == set(RewriteConfig.model_fields)
    assert not DECIDES.keys() & DOES_NOT_DECIDE.keys()


def test_all_that_decides_what_the_model_writes_changes_the_fingerprint() -> None:
    recipes = [recipe(), recipe(seed=1), recipe(prompt_set="crowd")]
    recipes += [recipe(**{name: value}) for name, values in DECIDES.items() for value in values]
    recipes.append(recipe(engine={"args": {"quantization": "fp8"}}))
    assert len({fingerprint_of(each) for each in recipes}) == len(recipes)


@pytest.mark.parametrize("name", DOES_NOT_DECIDE)
def test_what_does_not_decide_it_leaves_the_recipe(name: str) -> None:
    assert recipe(**{name: DOES_NOT_DECIDE[name]}) == recipe()


def test_a_local_models_files_are_part_of_its_recipe(tmp_path: Path) -> None:
    model = tmp_path / "model"
    storage.write_bytes(str(model / "config.json"), b"{}")
    before = recipe(model=str(model))
    assert recipe(model=str(model)) == before
    storage.write_bytes(str(model / "config.json"), b"[]")
    assert recipe(model=str(model))["weights"] != before["weights"]
    assert recipe(model="org/model")["weights"] is None
