"""Explanations of a question and of a clip whose every number is known."""

from __future__ import annotations

import torch

from mmexplain.explanation import Explanation, MapKey
from mmexplain.geometry import Geometry
from mmexplain.picture import Picture
from mmexplain.targets import Target, contrast

HEIGHT, WIDTH, GRID = 60, 90, 6
N_FRAMES, SEEN = 20, (2, 5, 8, 11, 14, 17)
SHARES = [100, 75, 25, 0, 0, 0]
"""Importance of the frames seen, where the map of 3 steps in time has its first alone: the frames lie at thirds less or
plus a sixth of a step, and before the first step's middle there is only that step."""
QUESTION = "what is on the table"


def question() -> Explanation:
    """Three answers and a contrast of two; the first words of the question speak for, the last against."""
    answers = [Target("cup", "answer", (1,)), Target("red cup", "answer", (2,)), Target("nothing", "answer", (3,))]
    targets = [*answers, contrast(answers[0], answers[1])]
    maps = torch.zeros(4, GRID, GRID)
    for number in range(4):
        maps[number, number + 1, number] = 1.0
    added = torch.tensor(
        [[0.5, 0.0, -0.01, -0.2, 2.0], [0.0, 0.0, 0.0, 0.0, -1.0], [0.0] * 5, [0.5, torch.nan, 0.0, 0.0, 3.0]]
    )
    return Explanation(
        task="vqa",
        model="toy-answerer",
        text=QUESTION + "?",
        targets=targets,
        scores=torch.tensor([2.0, 1.0, 0.0, 1.0]),
        probabilities=torch.tensor([0.6, 0.3, 0.1, torch.nan]),
        maps={MapKey("conv", "gradcam"): maps},
        geometry=Geometry.identity(HEIGHT, WIDTH).resize(48, 48),
        picture=Picture(torch.full((HEIGHT, WIDTH, 3), 128, dtype=torch.uint8), "/photos/table.jpg"),
        words=QUESTION.split(),
        text_maps={"gradient-x-embedding": -added, "integrated-gradients": added},
        text_errors={"integrated-gradients": torch.tensor([0.004, 0.02, 0.5, torch.nan])},
    )


def clip(geometry: Geometry | None = None, cell: tuple[int, int] = (1, 4)) -> Explanation:
    """Twenty grey frames, frame n of grey 10 n, of which the model saw :data:`SEEN`. The map of "jump" is one cell at
    the start, that of "fall" the same cell at the end."""
    maps = torch.zeros(2, 3, GRID, GRID)
    maps[0, 0, cell[0], cell[1]] = maps[1, 2, cell[0], cell[1]] = 5.0
    grey = 10 * torch.arange(N_FRAMES, dtype=torch.uint8)[:, None, None, None]
    geometry = geometry or Geometry.identity(HEIGHT, WIDTH).resize(48, 72).crop(0, 12, 48, 48)
    return Explanation(
        task="action",
        model="toy-net",
        text=None,
        targets=[Target("jump", "action", (0,)), Target("fall", "action", (1,))],
        scores=torch.tensor([3.0, 1.0]),
        probabilities=torch.tensor([0.8, 0.1]),
        maps={MapKey("conv", "gradcam"): maps, MapKey("conv", "gradcam++"): maps.flip(1)},
        geometry=geometry.sample(SEEN, N_FRAMES),
        picture=Picture(
            grey.expand(N_FRAMES, HEIGHT, WIDTH, 3),
            "/clips/jump.mp4",
            tuple(range(N_FRAMES)),
            tuple(n / 10 for n in range(N_FRAMES)),
        ),
    )
