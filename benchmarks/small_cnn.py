"""A small CNN that learns labels from scratch, true ones or any others."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

BATCH = 32
LEARNED = 0.95
"""Share of the labels that a network must have learned, as in the paper."""

ROUNDS = 6


class SmallCNN(nn.Module):
    """Four 3 × 3 convolutions with batch normalisation, averaged over space, and a linear layer."""

    def __init__(self, classes: int, width: int = 16) -> None:
        super().__init__()
        inputs, layers = 3, []
        for number, channels in enumerate((width, 2 * width, 4 * width, 4 * width), 1):
            stride = 2 if number == 1 else 1
            self.add_module(f"conv{number}", nn.Conv2d(inputs, channels, 3, stride, 1, bias=False))
            self.add_module(f"norm{number}", nn.BatchNorm2d(channels))
            self.add_module(f"relu{number}", nn.ReLU())
            layers += [f"conv{number}", f"norm{number}", f"relu{number}"]
            inputs = channels
        self.order = layers
        self.pool, self.choose = nn.MaxPool2d(2), nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, 3, S, S]`` → logits ``[B, classes]``; the last convolution sees a grid of S / 8."""
        for name in self.order:
            x = self.get_submodule(name)(x)
            if name in ("relu2", "relu3"):
                x = self.pool(x)
        logits: Tensor = self.choose(x.mean((2, 3)))
        return logits


def train(inputs: Tensor, wanted: Tensor, classes: int, epochs: int, seed: int) -> SmallCNN:
    """The network after as many rounds of ``epochs`` passes as it takes to get :data:`LEARNED` of the labels right, but
    no more than :data:`ROUNDS`; the same recipe whatever the labels are."""
    torch.manual_seed(seed)
    model = SmallCNN(classes)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    for _ in range(ROUNDS):
        model.train()
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, 5e-3, total_steps=epochs * -(-len(inputs) // BATCH), cycle_momentum=False
        )
        for _ in range(epochs):
            for rows in torch.randperm(len(inputs)).split(BATCH):
                loss = functional.cross_entropy(model(inputs[rows]), wanted[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        if accuracy(model.eval(), inputs, wanted) >= LEARNED:
            break
    return model


@torch.inference_mode()
def accuracy(model: SmallCNN, inputs: Tensor, wanted: Tensor) -> float:
    """Mean over the classes of the share that is right: chance is one over their number."""
    right = (model(inputs).argmax(1) == wanted).double()
    return float(np.mean([float(right[wanted == number].mean()) for number in wanted.unique()]))
