"""Adversarial photos: targeted projected gradient descent in an L∞ ball (Madry et al., ICLR 2018), and plain noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mmexplain.engine import run
from mmexplain.errors import InputError
from mmexplain.explainer import problem_of
from mmexplain.taps import INPUT
from mmexplain.targets import Target
from mmexplain.tasks.base import Batch

RELATIVE_STEP = 2.5
"""The length of a step, of ε over the number of steps. From any start they reach every point of the ball's boundary and
have some left to move along it (Madry et al. 2018)."""


@dataclass(frozen=True)
class Pixels:
    """How pixels from 0 to 1 lie in a model's input: ``x = black + (white - black) · pixel``.

    Attributes:
        black: ``[C, 1, 1]``, what the task's preprocessing makes of a black pixel.
        white: ``[C, 1, 1]``, of a white one.
    """

    black: Tensor
    white: Tensor

    @classmethod
    def of(cls, task: Any) -> Pixels:
        """As the preprocessing of a task has it."""
        side = max(*task.preprocess.size, 8)
        made = (task.preprocess(Image.new("RGB", (side, side), colour))[0] for colour in ("black", "white"))
        black, white = (x[:, x.shape[1] // 2, x.shape[2] // 2, None, None].to(task.like) for x in made)
        return cls(black, white)

    def read(self, images: Tensor) -> Tensor:
        """The pixels ``[B, C, h, w]``, 0 to 1, of inputs of the model."""
        return ((images - self.black) / (self.white - self.black)).clamp(0, 1)

    def write(self, pixels: Tensor) -> Tensor:
        """The inverse of :meth:`read`."""
        return self.black + (self.white - self.black) * pixels

    def distances(self, images: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """L∞ and L2 distance of inputs ``[B, C, h, w]``, each ``[B]``, of pixels from 0 to 1."""
        apart = (self.read(images) - self.read(others)).flatten(1)
        return apart.abs().amax(1), apart.norm(dim=1)

    def noisy(self, images: Tensor, size: float | Tensor, generator: torch.Generator) -> Tensor:
        """Inputs with noise that is uniform from ``-size`` to ``size`` (one number, or ``[B]``) in every pixel and
        channel, cut off at black and white."""
        drawn = torch.rand(images.shape, generator=generator).to(images).mul_(2).sub_(1)
        size = torch.as_tensor(size).to(images).reshape(-1, 1, 1, 1)
        return self.write((self.read(images) + size * drawn).clamp(0, 1))


@dataclass(frozen=True)
class Attacked:
    """Adversarial photos.

    Attributes:
        images: ``[B, C, h, w]``, inputs of the model.
        probability: ``[B]``, of the target.
        steps: ``[B]`` int64, how many were taken.
        reached: ``[B]`` bool, whether the probability is above the one that was asked for.
    """

    images: Tensor
    probability: Tensor
    steps: Tensor
    reached: Tensor


@dataclass(frozen=True)
class TargetedPGD:
    """Makes a model see a class where it is not, by changes of at most ε in every pixel.

    ``x₀`` is drawn uniformly from the ball; then ``xₜ₊₁ = Π(xₜ + α · sign ∇ log p(target))``, where Π cuts off at the
    ball and at black and white, and α is :data:`RELATIVE_STEP` · ε / steps. A photo is left alone as soon as the model
    is confident of the target.

    Attributes:
        epsilon: ε, of pixels from 0 to 1.
        confidence: the probability of the target that is to be passed.
        steps: at most.

    Raises:
        InputError: an option is out of range.
    """

    epsilon: float = 8 / 255
    confidence: float = 0.9999
    steps: int = 40

    def __post_init__(self) -> None:
        """The options make sense."""
        if not 0 < self.epsilon <= 1:
            raise InputError(f"epsilon={self.epsilon:g}: pixels run from 0 to 1, and may change by more than 0")
        if not 0 < self.confidence < 1:
            raise InputError(f"confidence={self.confidence:g}: a probability to pass lies between 0 and 1")
        if self.steps < 1:
            raise InputError(f"steps={self.steps}: take 1 or more")

    def attack(self, task: Any, images: Tensor, targets: Sequence[Target], generator: torch.Generator) -> Attacked:
        """Change photos.

        Args:
            task: a classifier; its model comes back as it was.
            images: ``[B, C, h, w]``, as :meth:`~mmexplain.tasks.base.PhotoTask.prepare` makes them.
            targets: the class that each is to be taken for.
            generator: of the starts, on the CPU.

        Raises:
            InputError: the model's outputs are no probabilities.
            ModelError: the model fails, or its scores or gradients are not finite.
        """
        pixels = Pixels.of(task)
        clean = pixels.read(images)
        low, high = (clean - self.epsilon).clamp(min=0), (clean + self.epsilon).clamp(max=1)
        now = pixels.read(pixels.noisy(images, self.epsilon, generator)).clamp(low, high)
        probability = torch.zeros(len(images), device=images.device)
        steps = torch.zeros_like(probability, dtype=torch.int64)
        going = torch.arange(len(images), device=images.device)
        for number in range(self.steps + 1):
            wanted = [targets[row] for row in going.tolist()]
            probability[going], gradients = _target_of(task, pixels.write(now[going]), wanted)
            steps[going] = number
            less = probability[going] <= self.confidence
            going = going[less]
            if number == self.steps or not len(going):
                break
            # With respect to pixels: a channel may be upside down in the model's input.
            up = (gradients[less] * (pixels.white - pixels.black)).sign()
            step = RELATIVE_STEP * self.epsilon / self.steps
            now[going] = (now[going] + step * up).clamp(low[going], high[going])
        return Attacked(pixels.write(now), probability, steps, probability > self.confidence)


def _target_of(task: Any, images: Tensor, targets: Sequence[Target]) -> tuple[Tensor, Tensor]:
    """Probabilities ``[B]`` of a target for each input, and the gradients ``[B, C, h, w]`` of their logarithms."""
    problem = problem_of(task, Batch({"image": images}), score=task.log_probability)
    found = run(problem, [[target] for target in targets], [INPUT], lambda _, activations, gradients: {"": gradients})
    return found.scores[:, 0].exp(), found.reduced[INPUT][""][:, 0]
