"""Scenes of coloured shapes and clips of moving ones, where it is known what is where."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

COLOURS = {"red": (220, 40, 40), "green": (40, 170, 60), "blue": (50, 80, 220)}
SHAPES = ("circle", "square", "triangle")
DIRECTIONS = ("left", "right", "up", "down")
SIDE, RADIUS, FRAMES = 96, 15, 8


class Thing(NamedTuple):
    """One shape of a scene: its names, and its centre in pixels."""

    colour: str
    shape: str
    x: int
    y: int


def scene(random: np.random.Generator) -> tuple[Image.Image, list[Thing]]:
    """Two different shapes of any colours in two of the photo's four quarters, on noise."""
    picture = noise(random)
    things = []
    for shape, quarter in zip(sorted(random.choice(SHAPES, 2, replace=False)), random.permutation(4)[:2], strict=True):
        x, y = (int(24 + 48 * place + random.integers(-6, 7)) for place in (quarter % 2, quarter // 2))
        things.append(Thing(str(random.choice(list(COLOURS))), str(shape), x, y))
        draw(picture, things[-1])
    return picture, things


def moving(random: np.random.Generator) -> tuple[np.ndarray, str, list[Thing], Thing]:
    """A clip ``[FRAMES, SIDE, SIDE, 3]`` uint8, which way its circle moves, where the circle is in each frame, and the
    square that stands still."""
    ground = noise(random)
    direction = str(random.choice(DIRECTIONS))
    dx, dy = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}[direction]
    (x, y), (still_x, still_y) = (24 + 48 * np.array(divmod(quarter, 2)) for quarter in random.permutation(4)[:2])
    speed, half = random.uniform(2, 4), (FRAMES - 1) / 2
    steps = [(round(x + dx * speed * (t - half)), round(y + dy * speed * (t - half))) for t in range(FRAMES)]
    colours = random.choice(list(COLOURS), 2)
    path = [Thing(str(colours[0]), "circle", *step) for step in steps]
    still = Thing(str(colours[1]), "square", int(still_x), int(still_y))
    frames = []
    for thing in path:
        frame = ground.copy()
        draw(frame, still)
        draw(frame, thing)
        frames.append(np.array(frame))
    return np.stack(frames), direction, path, still


def noise(random: np.random.Generator) -> Image.Image:
    """A grey ground without anything on it."""
    return Image.fromarray(random.integers(90, 166, (SIDE, SIDE, 3), dtype=np.uint8))


def draw(picture: Image.Image, thing: Thing) -> None:
    """Paint one shape."""
    x, y, fill = thing.x, thing.y, COLOURS[thing.colour]
    pen, box = ImageDraw.Draw(picture), (x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS)
    match thing.shape:
        case "circle":
            pen.ellipse(box, fill=fill)
        case "square":
            pen.rectangle(box, fill=fill)
        case _:
            pen.polygon([(x, y - RADIUS), (x + RADIUS, y + RADIUS), (x - RADIUS, y + RADIUS)], fill=fill)


def nearest(point: tuple[int, ...] | None, things: list[Thing]) -> Thing | None:
    """The thing whose centre a point lies nearest to; None without a point."""
    return point and min(things, key=lambda thing: (thing.x - point[0]) ** 2 + (thing.y - point[1]) ** 2)
