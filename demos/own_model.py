"""A video model of your own, trained in seconds on moving shapes:  python demos/own_model.py [clip.mp4]"""

import sys

import numpy as np
import torch
from models.shapes import DIRECTIONS, moving
from torch import nn, optim

from mmexplain.preprocess import Preprocess
from mmexplain.tasks.action import Action

# Any module from clips [B, 3, T, H, W] to scores will do. A circle moves one of four ways, a square stands still.
torch.manual_seed(0)
see = nn.Conv3d(3, 8, (1, 5, 5), (1, 2, 2), (0, 2, 2)), nn.BatchNorm3d(8), nn.ReLU()
move = nn.Conv3d(8, 24, 3, (1, 2, 2), 1), nn.BatchNorm3d(24), nn.ReLU()
model = nn.Sequential(*see, *move, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(24, len(DIRECTIONS)))
preprocess = Preprocess(resize=(24, 24), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
action = Action(model, preprocess, DIRECTIONS, frames=8, model_id="my 3-D CNN")

random = np.random.default_rng(0)
watched = [moving(random) for _ in range(300)]
clips = action.prepare([frames for frames, *_ in watched]).inputs["clip"]
directions = torch.tensor([DIRECTIONS.index(direction) for _, direction, *_ in watched])
optimizer = optim.Adam(model.parameters())
schedule = optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=300)
for chosen in torch.randint(len(clips), (300, 24)):
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(clips[chosen]), directions[chosen]).backward()
    optimizer.step(), schedule.step()
model.eval()

frames, direction, path, _ = moving(random)
explanation = action.explain(sys.argv[1] if len(sys.argv) > 1 else frames, top=2)
for number, target in enumerate(explanation.targets):
    print(f"{target.label:>5}: p = {explanation.probabilities[number]:.2f}, (x, y, frame) {explanation.peak(number)}")
print(f"painted: {direction}, circle from ({path[0].x}, {path[0].y}) to ({path[-1].x}, {path[-1].y})")
print("wrote", explanation.save("own.html"))
