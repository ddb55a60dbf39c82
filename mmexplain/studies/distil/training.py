"""Training a teacher and its students, from where an earlier run was stopped."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmexplain.errors import InputError
from mmexplain.studies.distil.data import Photos
from mmexplain.studies.distil.explanation_loss import ExplanationLoss, alike, class_maps
from mmexplain.studies.distil.wide_resnet import WideResNet
from mmexplain.tasks.captioning.checkpoint import load_strictly, load_training, read_tensors, save_training

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""``(model, photos [B, 3, h, w], classes [B]) → a scalar``."""


@dataclass(frozen=True)
class Recipe:
    """How networks are trained; the defaults are those of Zagoruyko & Komodakis 2016 for CIFAR.

    Attributes:
        epochs: passes over the photos.
        batch: photos in a step; what is left over at the end of an epoch waits for the next.
        rate: of stochastic gradient descent with Nesterov's momentum.
        momentum: of it.
        decay: of the weights.
        steps: shares of the epochs after which the rate is multiplied by ``factor``: 60, 120 and 160 of 200.
        factor: see ``steps``.
        padding: pixels, mirrored, that a photo is padded by before it is cut at random; half of the photos are flipped.
    """

    epochs: int = 200
    batch: int = 128
    rate: float = 0.1
    momentum: float = 0.9
    decay: float = 5e-4
    steps: tuple[float, ...] = (0.3, 0.6, 0.8)
    factor: float = 0.2
    padding: int = 4

    def rate_of(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0."""
        return self.rate * self.factor ** sum(epoch >= round(step * self.epochs) for step in self.steps)


@dataclass(frozen=True)
class Lesson:
    """What a student learns from beside the labels.

    Attributes:
        name: in tables.
        maps: whose maps it is to have: its teacher's, its teacher's of another photo, or an untrained teacher's.
        soft: it learns from its teacher's softened probabilities too (Hinton et al. 2015).
    """

    name: str
    maps: Literal["teacher", "other photos", "untrained"] | None = None
    soft: bool = False

    @property
    def slug(self) -> str:
        """The name as part of a file's: "ce-kd-maps"."""
        return re.sub(r"\W+", "-", self.name.lower())


@dataclass(frozen=True)
class Terms:
    """What the terms of the loss are made with.

    Attributes:
        alpha: of the maps' distance; .01 as published.
        temperature: of the softened probabilities; 4 as published.
    """

    alpha: float = 0.01
    temperature: float = 4.0


def loss_of(
    lesson: Lesson, teacher: nn.Module, untrained: nn.Module, explanations: ExplanationLoss, terms: Terms
) -> Loss:
    """Cross entropy (+ T² KL of the softened probabilities) (+ α ‖L_s − L_t‖²).

    Chattopadhay et al., "Grad-CAM++", WACV 2018, section 5; the middle term is that of Hinton et al., "Distilling the
    Knowledge in a Neural Network", 2015.
    """

    def loss(student: nn.Module, photos: Tensor, classes: Tensor) -> Tensor:
        # First, because this moves the running means of the norms that the maps are made with.
        logits = student(photos)
        total = functional.cross_entropy(logits, classes)
        said: Tensor | None = None
        if lesson.maps is not None:
            source = untrained if lesson.maps == "untrained" else teacher
            wanted, said = class_maps(source, photos, classes, explanations.teacher_layer, explanations.method)
            if lesson.maps == "other photos":
                wanted = wanted.roll(1, 0)
            distance = explanations.distance(explanations.student_maps(student, photos, classes), wanted)
            total = total + terms.alpha * distance
        if lesson.soft:
            if said is None or lesson.maps == "untrained":
                with torch.no_grad():
                    said = teacher(photos)
            softened = (said / terms.temperature).log_softmax(1)
            found = (logits / terms.temperature).log_softmax(1)
            apart = functional.kl_div(found, softened, reduction="batchmean", log_target=True)
            total = total + terms.temperature**2 * apart
        return total

    return loss


def cross_entropy(model: nn.Module, photos: Tensor, classes: Tensor) -> Tensor:
    """What a teacher learns by."""
    return functional.cross_entropy(model(photos), classes)


class Eyes:
    """Pixels as networks see them: scaled to mean 0 and deviation 1 of each colour over the training photos.

    Args:
        train: the training photos.
        device: where networks run.
    """

    def __init__(self, train: Photos, device: torch.device) -> None:
        self.device = device
        # Byte by byte value: all of CIFAR-10 as floating numbers would be a gigabyte.
        values = torch.arange(256, dtype=torch.float64) / 255
        shares = torch.stack([torch.bincount(colour.flatten(), minlength=256) for colour in train.pixels.unbind(1)])
        shares = shares.double() / shares.sum(1, keepdim=True)
        mean = shares @ values
        deviation = (shares @ values.square() - mean.square()).clamp(min=0).sqrt()
        self._mean = mean.float().view(1, 3, 1, 1).to(device)
        # A colour that never varies is only centred.
        self._deviation = deviation.clamp(min=1e-3).float().view(1, 3, 1, 1).to(device)

    def __call__(self, pixels: Tensor) -> Tensor:
        """uint8 ``[B, 3, h, w]`` → float32, laid out for fast convolutions."""
        seen = (pixels.to(self.device).float() / 255 - self._mean) / self._deviation
        return seen.contiguous(memory_format=torch.channels_last)


def augmented(pixels: Tensor, padding: int, random: torch.Generator) -> Tensor:
    """Photos ``[B, 3, h, w]`` (uint8), half of them flipped, each cut at random out of its mirrored surroundings."""
    count, _, height, width = pixels.shape
    flipped = torch.rand(count, generator=random) < 0.5
    pixels = torch.where(flipped.to(pixels.device)[:, None, None, None], pixels.flip(3), pixels)
    # Reflection is written for floating numbers only; bytes come back from them as they were.
    padded = functional.pad(pixels.float(), (padding,) * 4, mode="reflect").to(pixels.dtype)
    top, left = torch.randint(2 * padding + 1, (2, count), generator=random).to(pixels.device)
    rows = top[:, None] + torch.arange(height, device=pixels.device)
    columns = left[:, None] + torch.arange(width, device=pixels.device)
    own = torch.arange(count, device=pixels.device)[:, None, None]
    return padded.movedim(1, 3)[own, rows[:, :, None], columns[:, None, :]].movedim(3, 1)


def fresh(depth: int, width: int, classes: int, seed: int, device: torch.device) -> WideResNet:
    """An untrained network with weights of that seed."""
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(seed)
        model = WideResNet(depth, width, classes)
    return model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


@dataclass(frozen=True)
class Training:
    """Everything that runs have in common.

    Attributes:
        photos: to learn from.
        eyes: how they are seen.
        recipe: how networks are trained.
        folder: for finished networks and those half done; None keeps nothing.
        settings: what else runs must agree in to be taken for the same, JSON-able.
        told: called after each epoch.
    """

    photos: Photos
    eyes: Eyes
    recipe: Recipe
    folder: Path | None
    settings: dict[str, Any]
    told: Callable[[], None]

    def train(self, name: str, model: WideResNet, seed: int, loss: Loss, **settings: Any) -> WideResNet:
        """The model, trained; if a file says that it is already, or half, what is missing is done.

        Every epoch draws its order, flips and cuts from ``seed`` and its own number, so that a run that was stopped
        goes on as if it had not been.

        Args:
            name: of the run, for its file.
            model: with fresh weights.
            seed: of the order of the photos.
            loss: to be made small.
            settings: of this run alone, JSON-able.

        Raises:
            InputError: the file is of a run with other settings.
            CheckpointError: the file is damaged.
        """
        recipe = self.recipe
        wanted = _as_read({**self.settings, **asdict(recipe), "seed": seed, "model": model.name, **settings})
        done_file = None if self.folder is None else self.folder / f"{name}.safetensors"
        half_file = None if self.folder is None else self.folder / f"{name}.half.safetensors"
        if done_file is not None and done_file.exists():
            tensors, header = read_tensors(done_file)
            _require_same(done_file, header, wanted)
            load_strictly(model, tensors, done_file)
            for _ in range(recipe.epochs):
                self.told()
            return model.eval()
        optimizer = torch.optim.SGD(
            model.parameters(), recipe.rate, recipe.momentum, weight_decay=recipe.decay, nesterov=True
        )
        begun = 0
        if half_file is not None and half_file.exists():
            _require_same(half_file, read_tensors(half_file)[1], wanted)
            begun = int(load_training(half_file, {"model": model}, optimizer)["epochs"])
            for _ in range(begun):
                self.told()
        for epoch in range(begun, recipe.epochs):
            # cuDNN has faster backward passes that sum in another order each time.
            with torch.backends.cudnn.flags(enabled=True, deterministic=True):
                self._epoch(model, optimizer, seed, epoch, loss)
            self.told()
            if half_file is not None and epoch + 1 < recipe.epochs:
                save_training(half_file, {"model": model}, optimizer, {"epochs": epoch + 1, "settings": wanted})
        if done_file is not None and half_file is not None:
            model.save(done_file, settings=wanted)
            half_file.unlink(missing_ok=True)
        return model.eval()

    def _epoch(self, model: nn.Module, optimizer: torch.optim.Optimizer, seed: int, epoch: int, loss: Loss) -> None:
        random = torch.Generator().manual_seed(seed * 100_003 + epoch)
        for group in optimizer.param_groups:
            group["lr"] = self.recipe.rate_of(epoch)
        model.train()
        for chosen in steps_of(len(self.photos), self.recipe.batch, random):
            photos = self.eyes(augmented(self.photos.pixels[chosen], self.recipe.padding, random))
            optimizer.zero_grad(set_to_none=True)
            loss(model, photos, self.photos.classes[chosen].to(photos.device)).backward()
            optimizer.step()


def steps_of(count: int, batch: int, random: torch.Generator) -> list[Tensor]:
    """The photos of each step of an epoch, in a random order; what does not fill a batch is left out, unless it is
    all."""
    order = torch.randperm(count, generator=random)
    return [order] if count < batch else list(order[: count - count % batch].split(batch))


@dataclass(frozen=True)
class Answers:
    """What a network did on the test photos.

    Attributes:
        wrong: bool ``[N]``.
        alike: correlation of its map of the true class with the teacher's, ``[N]``, NaN where there is none.
    """

    wrong: Tensor
    alike: Tensor


def tested(model: nn.Module, teacher: nn.Module, photos: Photos, eyes: Eyes, explanations: ExplanationLoss) -> Answers:
    """Ask a network about the test photos, and hold its maps against the teacher's."""
    wrong, likeness = [], []
    for chosen in torch.arange(len(photos)).split(256):
        seen, classes = eyes(photos.pixels[chosen]), photos.classes[chosen].to(eyes.device)
        maps, logits = class_maps(model, seen, classes, explanations.layer, explanations.method)
        others = class_maps(teacher, seen, classes, explanations.teacher_layer, explanations.method).maps
        wrong.append((logits.argmax(1) != classes).cpu())
        likeness.append(alike(maps, others).cpu())
    return Answers(torch.cat(wrong), torch.cat(likeness))


def _as_read(settings: dict[str, Any]) -> dict[str, Any]:
    """As JSON gives them back."""
    found: dict[str, Any] = json.loads(json.dumps(settings))
    return found


def _require_same(path: Path, header: dict[str, Any], wanted: dict[str, Any]) -> None:
    had = header.get("settings")
    if had == wanted:
        return
    had = had if isinstance(had, dict) else {}
    names = [name for name in {**wanted, **had} if had.get(name) != wanted.get(name)]
    told = ", ".join(f"{name} {had.get(name)} instead of {wanted.get(name)}" for name in names[:3])
    raise InputError(f"{str(path)!r} is of a run with other settings ({told}): choose another --out, or remove it")
