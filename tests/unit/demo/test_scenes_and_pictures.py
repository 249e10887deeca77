"""Scenes and pictures are functions of their keys, and cover the world."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from laclip_ray.demo.pictures import render
from laclip_ray.demo.scenes import COLOURS, COUNT_MAX, KINDS, PLACES, draw_scene


def test_equal_keys_give_equal_scenes_and_pixels() -> None:
    first, second = draw_scene("test", 7), draw_scene("test", 7)
    assert first == second
    assert render(first).tobytes() == render(second).tobytes()


def test_other_keys_give_other_scenes() -> None:
    assert len({draw_scene("test", index) for index in range(200)}) == 200


def test_scenes_cover_every_kind_colour_place_and_count() -> None:
    scenes = [draw_scene("cover", index) for index in range(2000)]
    for values, expected in (
        (Counter(scene.kind for scene in scenes), len(KINDS)),
        (Counter(scene.colour for scene in scenes), len(COLOURS)),
        (Counter(scene.place for scene in scenes), len(PLACES)),
        (Counter(scene.count for scene in scenes), COUNT_MAX),
    ):
        assert len(values) == expected
        assert min(values.values()) > 0.6 * len(scenes) / expected


def test_clutter_is_of_other_kinds() -> None:
    for index in range(300):
        scene = draw_scene("clutter", index)
        assert all(kind != scene.kind for kind, _ in scene.clutter)


@pytest.mark.parametrize("size_px", [32, 64, 96])
def test_pictures_have_the_size_asked_for(size_px: int) -> None:
    picture = render(draw_scene("size", 1), size_px)
    assert picture.mode == "RGB"
    assert picture.size == (size_px, size_px)


def test_every_kind_and_colour_changes_the_picture() -> None:
    scene = draw_scene("shape", 3)
    kinds = {render(replace(scene, kind=kind)).tobytes() for kind in KINDS}
    colours = {render(replace(scene, colour=colour)).tobytes() for colour in COLOURS}
    assert len(kinds) == len(KINDS)
    assert len(colours) == len(COLOURS)


def test_main_objects_are_visible_on_every_background() -> None:
    base = replace(draw_scene("visible", 5), clutter=(), count=1, size=0.8)
    for place in PLACES:
        pixels = [
            np.asarray(render(replace(base, place=place, kind=kind)), dtype=np.float64) for kind in ("cup", "tree")
        ]
        assert np.abs(pixels[0] - pixels[1]).mean() > 2.0
