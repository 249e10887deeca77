"""Alt-texts are poor but true, rewrites say exactly what alt-texts say."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.demo.language import (
    NAMES,
    PLACE_PHRASES,
    STYLES,
    TEMPLATES,
    Facts,
    alt_text,
    class_names,
    facts_of,
    full_caption,
    is_faithful,
    rewrite,
    rewrite_pair,
    zero_shot_templates,
)
from laclip_ray.demo.scenes import KINDS, draw_scene
from laclip_ray.rewriting.prompting.prompts import (
    PAIRS_PER_HEAD,
    SEPARATOR,
    built_in_prompt_sets,
    clean_caption,
    load_prompt_set,
)

keys = st.integers(min_value=0, max_value=2**40)
styles = st.sampled_from(STYLES)


@given(key=keys)
def test_alt_texts_are_one_clean_line_without_the_separator(key: int) -> None:
    text = alt_text(draw_scene(key), key)
    assert SEPARATOR not in text
    assert clean_caption(text) == text
    assert text


@given(key=keys)
def test_alt_texts_state_only_true_facts(key: int) -> None:
    scene = draw_scene(key)
    facts = facts_of(alt_text(scene, key))
    assert facts is not None
    assert facts.kind == scene.kind
    assert facts.colour in (None, scene.colour)
    assert facts.count in (None, scene.count)
    assert facts.place in (None, scene.place)
    assert not (facts.several and scene.count == 1)


@given(key=keys, style=styles)
def test_rewrites_are_faithful(key: int, style: str) -> None:
    source, target = rewrite_pair(draw_scene(key), style, key)
    assert is_faithful(source, target), (source, target)


@given(key=keys, style=styles)
def test_rewrites_are_short_single_lines_without_numerals(key: int, style: str) -> None:
    _, target = rewrite_pair(draw_scene(key), style, key)
    assert target == clean_caption(target)
    assert len(target.split()) <= 22
    assert not re.search(r"[0-9{}]", target)


@given(key=keys, style=styles)
def test_equal_keys_give_equal_pairs(key: int, style: str) -> None:
    assert rewrite_pair(draw_scene(key), style, key) == rewrite_pair(draw_scene(key), style, key)


@given(key=keys)
def test_full_captions_state_everything(key: int) -> None:
    scene = draw_scene(key)
    facts = facts_of(full_caption(scene, key))
    count = scene.count if scene.count > 1 else None
    assert facts == Facts(scene.kind, scene.colour, count, several=False, place=scene.place)


def test_the_kinds_own_name_is_rare_in_alt_texts_and_common_in_rewrites() -> None:
    own_in_source = own_in_target = 0
    for index in range(1000):
        scene = draw_scene(index)
        own = set(NAMES[scene.kind][0])
        source, target = rewrite_pair(scene, STYLES[index % 4], index)
        own_in_source += bool(own & set(re.findall("[a-z]+", source.lower())))
        own_in_target += bool(own & set(re.findall("[a-z]+", target.lower())))
    assert own_in_source < 350
    assert own_in_target > 500


@pytest.mark.parametrize("style", STYLES)
def test_every_style_has_many_wordings_and_a_built_in_prompt_set(style: str) -> None:
    facts = Facts("cup", None, None, several=False, place=None)
    assert len({rewrite(facts, style, index) for index in range(400)}) >= 8
    assert style in built_in_prompt_sets()


def test_styles_share_no_wording() -> None:
    templates = [template for style in STYLES for template in TEMPLATES[style]]
    assert len(set(templates)) == len(templates)


def test_zero_shot_wording_appears_in_no_caption() -> None:
    articles = {"a", "an", "the"}
    wording = {
        word for template in zero_shot_templates() for word in re.findall("[a-z]+", template.replace("{c}", ""))
    } - articles
    texts = [template for style in STYLES for template in TEMPLATES[style]]
    texts += [phrase for phrases in PLACE_PHRASES.values() for phrase in phrases]
    for index in range(3000):
        scene = draw_scene("templates", index)
        texts += rewrite_pair(scene, STYLES[index % 4], index)
    seen = {word for text in texts for word in re.findall("[a-z]+", text.lower())}
    assert len(wording) >= 5
    assert not wording & seen


def test_class_names_are_the_kinds_in_order() -> None:
    assert class_names() == KINDS
    assert all("{c}" in template for template in zero_shot_templates())


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("mug red img 2041", Facts("cup", "red", None, several=False, place=None)),
        ("x3 blk kittens", Facts("cat", "black", 3, several=False, place=None)),
        ("Several yachts at the seaside.", Facts("boat", None, None, several=True, place="beach")),
        ("two_fungi_snowy_0002.jpg", Facts("mushroom", None, 2, several=False, place="snow")),
        ("a cat and a dog", Facts("cat", None, None, several=False, place=None)),
        ("a cat and a bird", None),
        ("a red and blue cat", None),
        ("stock photo", None),
    ],
)
def test_facts_of_examples(text: str, facts: Facts | None) -> None:
    assert facts_of(text) == facts


@pytest.mark.parametrize(
    "target",
    [
        "Two blue cups.",
        "A cup.",
        "A blue cup in the snow.",
        "Some blue cups.",
        "A blue car.",
        "One blue cup.",
    ],
)
def test_added_or_lost_facts_are_unfaithful(target: str) -> None:
    assert is_faithful("blue mug", "A blue cup.")
    assert not is_faithful("blue mug", target)


def test_prompt_sets_have_enough_pairs_for_a_head() -> None:
    assert all(len(load_prompt_set(style).pairs) >= PAIRS_PER_HEAD for style in STYLES)
