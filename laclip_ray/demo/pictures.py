"""Pictures of the demo's scenes: vector shapes on textured backgrounds, drawn with Pillow.

Guarantees: `render` is a pure function: equal scenes and sizes give equal pixels with the same Pillow and numpy. Every
kind has its own shape. Pose, scale, clutter, brightness and noise make it hard to tell kinds apart.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from laclip_ray.demo.scenes import Scene
from laclip_ray.randomness import generator

DEFAULT_SIZE_PX = 64
OVERSAMPLING = 2
"""Shapes are drawn this many times larger and then reduced, which smooths their edges."""
CANVAS_PX = DEFAULT_SIZE_PX * OVERSAMPLING
"""Side length of the canvas. Pictures are scaled after drawing, which keeps textures alike at every size."""

Point = tuple[float, float]
Rgb = tuple[int, int, int]

RGB: dict[str, Rgb] = {
    "red": (208, 44, 40),
    "blue": (44, 84, 206),
    "green": (38, 150, 62),
    "yellow": (242, 208, 40),
    "purple": (136, 52, 170),
    "orange": (240, 130, 28),
    "black": (34, 34, 38),
    "white": (244, 244, 240),
}
WOOD: Rgb = (112, 74, 42)
CREAM: Rgb = (236, 222, 192)
STEM: Rgb = (58, 116, 48)

LAYOUTS: dict[int, tuple[Point, ...]] = {
    1: ((0.5, 0.56),),
    2: ((0.29, 0.56), (0.71, 0.56)),
    3: ((0.25, 0.38), (0.72, 0.42), (0.48, 0.76)),
    4: ((0.27, 0.34), (0.73, 0.36), (0.28, 0.76), (0.74, 0.75)),
}
"""Positions of the main objects before jitter, as shares of the picture, by their count."""
RADII: dict[int, tuple[float, float]] = {1: (0.27, 0.42), 2: (0.19, 0.26), 3: (0.17, 0.22), 4: (0.16, 0.2)}
"""Smallest and largest radius of a main object, as shares of the picture, by their count."""


@dataclass(frozen=True)
class Shape:
    """A part of an object: a filled polygon, or with a `stroke` width a line along the points.

    Coordinates are in the object's own frame, -1 to 1, with y downwards. `fill` is a colour, or one of
    "main", "dark", "light" and "line", which follow the object's colour.
    """

    points: tuple[Point, ...]
    fill: str | Rgb
    stroke: float = 0.0


def _ellipse(
    x: float, y: float, radius_x: float, radius_y: float, start_turn: float = 0.0, end_turn: float = 1.0
) -> tuple[Point, ...]:
    """Points along an ellipse, clockwise on the screen from `start_turn` to `end_turn`; 0 is to the right."""
    steps = max(6, round(18 * (end_turn - start_turn)))
    angles = [2 * math.pi * (start_turn + (end_turn - start_turn) * step / steps) for step in range(steps + 1)]
    return tuple((x + radius_x * math.cos(angle), y + radius_y * math.sin(angle)) for angle in angles)


def _box(left: float, top: float, right: float, bottom: float) -> tuple[Point, ...]:
    return ((left, top), (right, top), (right, bottom), (left, bottom))


SHAPES: dict[str, tuple[Shape, ...]] = {
    "cup": (
        Shape(_ellipse(0.5, 0.0, 0.38, 0.36), "main", 0.17),
        Shape(((-0.8, -0.6), (0.5, -0.6), (0.36, 0.75), (-0.62, 0.75)), "main"),
        Shape(((-0.8, -0.6), (-0.5, -0.6), (-0.4, 0.75), (-0.62, 0.75)), "dark"),
        Shape(_ellipse(-0.15, -0.6, 0.65, 0.17), "light"),
        Shape(_ellipse(-0.15, -0.57, 0.5, 0.1), (84, 52, 30)),
    ),
    "fish": (
        Shape(((0.45, 0.0), (1.0, -0.5), (0.86, 0.0), (1.0, 0.5)), "dark"),
        Shape(((-0.2, -0.35), (0.2, -0.75), (0.35, -0.25)), "dark"),
        Shape(_ellipse(-0.2, 0.0, 0.78, 0.43), "main"),
        Shape(((-0.1, 0.05), (0.25, 0.3), (0.2, 0.0)), "light"),
        Shape(_ellipse(-0.42, 0.0, 0.16, 0.34, -0.25, 0.25), "dark", 0.06),
        Shape(_ellipse(-0.68, -0.1, 0.11, 0.11), (250, 250, 250)),
        Shape(_ellipse(-0.7, -0.1, 0.05, 0.05), (10, 10, 10)),
    ),
    "tree": (
        Shape(_box(-0.13, 0.5, 0.13, 1.0), WOOD),
        Shape(((-0.72, 0.65), (0.72, 0.65), (0.0, -0.2)), "dark"),
        Shape(((-0.58, 0.18), (0.58, 0.18), (0.0, -0.6)), "main"),
        Shape(((-0.42, -0.3), (0.42, -0.3), (0.0, -1.0)), "light"),
    ),
    "house": (
        Shape(_box(0.3, -0.85, 0.52, -0.3), "dark"),
        Shape(_box(-0.7, -0.2, 0.7, 0.85), "main"),
        Shape(((-0.95, -0.15), (0.95, -0.15), (0.0, -0.95)), "dark"),
        Shape(_box(-0.1, 0.25, 0.24, 0.85), WOOD),
        Shape(_box(-0.55, 0.1, -0.22, 0.45), (250, 240, 170)),
        Shape(_box(0.36, 0.1, 0.6, 0.4), (250, 240, 170)),
    ),
    "car": (
        Shape(((-0.55, 0.0), (-0.32, -0.5), (0.35, -0.5), (0.62, 0.0)), "dark"),
        Shape(((-0.4, -0.04), (-0.24, -0.4), (-0.02, -0.4), (-0.02, -0.04)), (196, 222, 236)),
        Shape(((0.06, -0.04), (0.06, -0.4), (0.28, -0.4), (0.46, -0.04)), (196, 222, 236)),
        Shape(((-1.0, 0.1), (-0.9, -0.06), (0.75, -0.06), (1.0, 0.08), (1.0, 0.42), (-1.0, 0.42)), "main"),
        Shape(_ellipse(-0.52, 0.42, 0.25, 0.25), (24, 24, 26)),
        Shape(_ellipse(0.52, 0.42, 0.25, 0.25), (24, 24, 26)),
        Shape(_ellipse(-0.52, 0.42, 0.1, 0.1), (190, 190, 194)),
        Shape(_ellipse(0.52, 0.42, 0.1, 0.1), (190, 190, 194)),
    ),
    "cat": (
        Shape(((0.4, 0.85), (0.8, 0.7), (0.85, 0.2), (0.65, -0.05)), "dark", 0.17),
        Shape(_ellipse(0.0, 0.45, 0.52, 0.52), "main"),
        Shape(((-0.5, -0.35), (-0.47, -1.0), (-0.08, -0.62)), "dark"),
        Shape(((0.5, -0.35), (0.47, -1.0), (0.08, -0.62)), "dark"),
        Shape(_ellipse(0.0, -0.3, 0.54, 0.44), "main"),
        Shape(_ellipse(-0.22, -0.36, 0.1, 0.12), (180, 226, 90)),
        Shape(_ellipse(0.22, -0.36, 0.1, 0.12), (180, 226, 90)),
        Shape(((-0.08, -0.16), (0.08, -0.16), (0.0, -0.06)), (232, 128, 140)),
        Shape(((-0.7, -0.18), (-0.2, -0.1)), "line", 0.04),
        Shape(((0.7, -0.18), (0.2, -0.1)), "line", 0.04),
        Shape(_ellipse(-0.2, 0.9, 0.17, 0.1), "light"),
        Shape(_ellipse(0.2, 0.9, 0.17, 0.1), "light"),
    ),
    "boat": (
        Shape(((0.0, 0.4), (0.0, -0.98)), WOOD, 0.09),
        Shape(((0.1, 0.25), (0.1, -0.9), (0.78, 0.25)), "light"),
        Shape(((-0.1, 0.25), (-0.1, -0.7), (-0.6, 0.25)), "main"),
        Shape(((-0.95, 0.38), (0.95, 0.38), (0.6, 0.85), (-0.6, 0.85)), "main"),
        Shape(((-0.95, 0.38), (0.95, 0.38), (0.88, 0.5), (-0.88, 0.5)), "dark"),
    ),
    "umbrella": (
        Shape(((0.0, -0.9), (0.0, 0.72), (0.1, 0.88), (0.26, 0.84), (0.3, 0.68)), WOOD, 0.1),
        Shape(_ellipse(0.0, 0.05, 0.98, 0.85, 0.5, 1.0), "main"),
        Shape(((-0.33, 0.05), (-0.25, -0.45), (0.0, -0.8), (0.25, -0.45), (0.33, 0.05)), "light"),
        Shape(((-0.98, 0.05), (-0.9, -0.3), (-0.6, -0.6), (-0.66, 0.05)), "dark"),
        Shape(((0.98, 0.05), (0.9, -0.3), (0.6, -0.6), (0.66, 0.05)), "dark"),
    ),
    "bird": (
        Shape(((0.45, 0.05), (1.0, -0.3), (0.95, 0.15), (0.5, 0.35)), "dark"),
        Shape(((-0.05, 0.5), (-0.1, 0.92)), (224, 140, 40), 0.08),
        Shape(((0.15, 0.5), (0.15, 0.92)), (224, 140, 40), 0.08),
        Shape(_ellipse(0.05, 0.15, 0.58, 0.43), "main"),
        Shape(((-0.75, -0.45), (-1.0, -0.3), (-0.7, -0.25)), (240, 160, 30)),
        Shape(_ellipse(-0.45, -0.35, 0.33, 0.31), "main"),
        Shape(((-0.12, 0.0), (0.5, -0.05), (0.66, 0.22), (0.1, 0.38)), "dark"),
        Shape(_ellipse(-0.3, 0.3, 0.2, 0.18), "light"),
        Shape(_ellipse(-0.54, -0.42, 0.08, 0.08), (250, 250, 250)),
        Shape(_ellipse(-0.55, -0.42, 0.04, 0.04), (10, 10, 10)),
    ),
    "flower": (
        Shape(((0.0, 0.0), (0.05, 0.98)), STEM, 0.1),
        Shape(((0.03, 0.75), (0.45, 0.4), (0.36, 0.72)), STEM),
        *(
            Shape(
                _ellipse(
                    0.38 * math.cos(math.pi * petal / 3),
                    -0.35 + 0.38 * math.sin(math.pi * petal / 3),
                    0.27,
                    0.27,
                ),
                "main" if petal % 2 else "light",
            )
            for petal in range(6)
        ),
        Shape(_ellipse(0.0, -0.35, 0.23, 0.23), (120, 72, 24)),
    ),
    "bicycle": (
        Shape(_ellipse(-0.55, 0.3, 0.4, 0.4), (40, 40, 44), 0.11),
        Shape(_ellipse(0.55, 0.3, 0.4, 0.4), (40, 40, 44), 0.11),
        Shape(((-0.55, 0.3), (-0.2, -0.3), (0.38, -0.3), (0.05, 0.3), (-0.55, 0.3)), "main", 0.14),
        Shape(((-0.2, -0.3), (0.05, 0.3)), "main", 0.14),
        Shape(((0.55, 0.3), (0.34, -0.55), (0.56, -0.66)), "main", 0.13),
        Shape(((-0.26, -0.3), (-0.3, -0.48)), "main", 0.12),
        Shape(((-0.5, -0.5), (-0.12, -0.5)), "dark", 0.16),
    ),
    "mushroom": (
        Shape(((-0.24, 0.0), (0.24, 0.0), (0.32, 0.9), (-0.32, 0.9)), CREAM),
        Shape(_ellipse(0.0, 0.1, 0.92, 0.95, 0.5, 1.0), "main"),
        Shape(_ellipse(0.0, 0.1, 0.92, 0.14), "dark"),
        Shape(_ellipse(-0.4, -0.25, 0.16, 0.14), "light"),
        Shape(_ellipse(0.12, -0.55, 0.17, 0.13), "light"),
        Shape(_ellipse(0.5, -0.18, 0.14, 0.14), "light"),
    ),
}


def _mix(first: Rgb, second: Rgb, share: float) -> Rgb:
    """Mix `share` of `second` into `first`."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def _fill(fill: str | Rgb, colour: str) -> Rgb:
    if not isinstance(fill, str):
        return fill
    main = RGB[colour]
    match fill:
        case "main":
            return main
        case "dark":
            return _mix(main, (0, 0, 0), 0.25) if colour != "black" else (12, 12, 14)
        case "light":
            return _mix(main, (255, 255, 255), 0.28) if colour != "black" else (66, 66, 74)
        case _:
            return (40, 40, 44) if colour != "black" else (200, 200, 204)


@dataclass(frozen=True)
class Pose:
    """Position, size and rotation of an object on the canvas."""

    x_px: float
    y_px: float
    radius_px: float
    aspect: float
    """Width over height; negative mirrors the object."""
    angle_rad: float


def _draw_object(draw: ImageDraw.ImageDraw, kind: str, colour: str, pose: Pose) -> None:
    cosine, sine = math.cos(pose.angle_rad) * pose.radius_px, math.sin(pose.angle_rad) * pose.radius_px
    outline = _fill("line", colour)
    for shape in SHAPES[kind]:
        points = [
            (
                pose.x_px + cosine * pose.aspect * x - sine * y,
                pose.y_px + sine * pose.aspect * x + cosine * y,
            )
            for x, y in shape.points
        ]
        fill = _fill(shape.fill, colour)
        if shape.stroke:
            draw.line(points, fill=fill, width=max(1, round(shape.stroke * pose.radius_px)), joint="curve")
        elif shape.fill == "main":
            draw.polygon(points, fill=fill, outline=outline)
        else:
            draw.polygon(points, fill=fill)


def _pose(noise: np.random.Generator, x_px: float, y_px: float, radius_px: float) -> Pose:
    mirror = -1.0 if noise.random() < 0.5 else 1.0
    return Pose(x_px, y_px, radius_px, mirror * noise.uniform(0.8, 1.2), noise.uniform(-0.2, 0.2))


def _main_poses(scene: Scene, noise: np.random.Generator, side_px: int) -> list[Pose]:
    smallest, largest = RADII[scene.count]
    radius = smallest + (largest - smallest) * scene.size
    jitter = max(0.06, 0.44 - radius) if scene.count == 1 else 0.06
    return [
        _pose(
            noise,
            (x + noise.uniform(-jitter, jitter)) * side_px,
            (y + noise.uniform(-jitter, jitter)) * side_px,
            radius * noise.uniform(0.88, 1.1) * side_px,
        )
        for x, y in LAYOUTS[scene.count]
    ]


def _speckle(
    draw: ImageDraw.ImageDraw,
    noise: np.random.Generator,
    box: tuple[float, float, float, float],
    fill: Rgb,
    count: int,
) -> None:
    """Draw `count` short strokes inside `box`."""
    xs, ys = noise.uniform(box[0], box[2], count).tolist(), noise.uniform(box[1], box[3], count).tolist()
    for x, y in zip(xs, ys, strict=True):
        draw.line([(x, y), (x + 2, y - 2)], fill=fill, width=1)


def _draw_beach(draw: ImageDraw.ImageDraw, noise: np.random.Generator, side_px: int) -> None:
    sea, sand = noise.uniform(0.2, 0.4) * side_px, noise.uniform(0.5, 0.62) * side_px
    draw.rectangle((0, 0, side_px, sea), fill=(160, 208, 238))
    draw.rectangle((0, sea, side_px, sand), fill=(56, 140, 190))
    draw.rectangle((0, sand, side_px, side_px), fill=(232, 208, 150))
    draw.line([(0, sand), (side_px * 0.5, sand + 3), (side_px, sand)], fill=(240, 248, 250), width=3)
    _speckle(draw, noise, (0, sand + 4, side_px, side_px), (204, 176, 118), 24)


def _draw_meadow(draw: ImageDraw.ImageDraw, noise: np.random.Generator, side_px: int) -> None:
    horizon = noise.uniform(0.25, 0.5) * side_px
    draw.rectangle((0, 0, side_px, horizon), fill=(176, 214, 244))
    draw.rectangle((0, horizon, side_px, side_px), fill=(126, 184, 84))
    _speckle(draw, noise, (0, horizon + 3, side_px, side_px), (88, 148, 58), 40)
    _speckle(draw, noise, (0, horizon + 3, side_px, side_px), (228, 228, 120), 6)


def _draw_kitchen(draw: ImageDraw.ImageDraw, noise: np.random.Generator, side_px: int) -> None:
    counter, tile = noise.uniform(0.6, 0.78) * side_px, noise.uniform(0.14, 0.2) * side_px
    draw.rectangle((0, 0, side_px, counter), fill=(222, 226, 220))
    for line in range(8):
        draw.line([(line * tile, 0), (line * tile, counter)], fill=(186, 194, 190), width=1)
        if line * tile < counter:
            draw.line([(0, line * tile), (side_px, line * tile)], fill=(186, 194, 190), width=1)
    draw.rectangle((0, counter, side_px, side_px), fill=(164, 118, 76))
    draw.rectangle((0, counter, side_px, counter + 3), fill=(120, 84, 52))


def _draw_street(draw: ImageDraw.ImageDraw, noise: np.random.Generator, side_px: int) -> None:
    road = noise.uniform(0.62, 0.8) * side_px
    draw.rectangle((0, 0, side_px, road), fill=(30, 34, 72))
    left = 0.0
    while left < side_px:
        width, top = noise.uniform(0.16, 0.3) * side_px, noise.uniform(0.08, 0.4) * side_px
        draw.rectangle((left, top, left + width - 2, road), fill=(58, 60, 92))
        for window in noise.uniform(0.1, 0.9, (4, 2)).tolist():
            x, y = left + window[0] * (width - 8), top + window[1] * (road - top - 8)
            draw.rectangle((x, y, x + 4, y + 5), fill=(246, 220, 120))
        left += width
    draw.rectangle((0, road, side_px, side_px), fill=(84, 84, 92))
    for dash in range(4):
        start, middle = dash * side_px / 4, (road + side_px) / 2
        draw.line([(start, middle), (start + side_px / 8, middle)], fill=(220, 220, 200), width=2)


def _draw_snow(draw: ImageDraw.ImageDraw, noise: np.random.Generator, side_px: int) -> None:
    ground = noise.uniform(0.3, 0.55) * side_px
    draw.rectangle((0, 0, side_px, ground), fill=(170, 186, 204))
    draw.rectangle((0, ground, side_px, side_px), fill=(228, 234, 242))
    hill = noise.uniform(0.2, 0.8) * side_px
    draw.ellipse((hill - 50, ground - 9, hill + 50, ground + 30), fill=(228, 234, 242))
    for x, y in (noise.uniform(0, side_px, (26, 2))).tolist():
        draw.ellipse((x, y, x + 3, y + 3), fill=(252, 252, 255))


def _draw_desert(draw: ImageDraw.ImageDraw, noise: np.random.Generator, side_px: int) -> None:
    horizon = noise.uniform(0.3, 0.5) * side_px
    draw.rectangle((0, 0, side_px, horizon + 12), fill=(248, 214, 168))
    sun = noise.uniform(0.1, 0.9) * side_px
    draw.ellipse((sun - 8, 6, sun + 8, 22), fill=(255, 244, 210))
    draw.rectangle((0, horizon + 10, side_px, side_px), fill=(216, 158, 92))
    for shade in ((224, 170, 104), (202, 142, 78)):
        peak, base = noise.uniform(0.1, 0.9) * side_px, noise.uniform(0.55, 1.0) * side_px
        draw.polygon([(peak - side_px * 0.7, base), (peak, horizon), (peak + side_px * 0.5, base)], fill=shade)
    _speckle(draw, noise, (0, horizon + 16, side_px, side_px), (180, 124, 66), 12)


DRAW_BACKGROUND: dict[str, Callable[[ImageDraw.ImageDraw, np.random.Generator, int], None]] = {
    "beach": _draw_beach,
    "meadow": _draw_meadow,
    "kitchen": _draw_kitchen,
    "street": _draw_street,
    "snow": _draw_snow,
    "desert": _draw_desert,
}


def render(scene: Scene, size_px: int = DEFAULT_SIZE_PX) -> Image.Image:
    """Draw the scene as an RGB picture of `size_px` by `size_px`."""
    noise = generator("render", scene.noise_seed)
    canvas = Image.new("RGB", (CANVAS_PX, CANVAS_PX))
    draw = ImageDraw.Draw(canvas)
    DRAW_BACKGROUND[scene.place](draw, noise, CANVAS_PX)
    for pose in _main_poses(scene, noise, CANVAS_PX):
        _draw_object(draw, scene.kind, scene.colour, pose)
    for kind, colour in scene.clutter:
        x_px, y_px = (noise.uniform(0.06, 0.94, 2) * CANVAS_PX).tolist()
        _draw_object(draw, kind, colour, _pose(noise, x_px, y_px, noise.uniform(0.06, 0.1) * CANVAS_PX))
    picture = canvas.resize((size_px, size_px), Image.Resampling.BILINEAR)
    pixels = np.asarray(picture, dtype=np.float32) * noise.uniform(0.75, 1.15)
    pixels += noise.standard_normal(pixels.shape, dtype=np.float32) * noise.uniform(2.0, 12.0)
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8), "RGB")
