"""Stage 1 of training: the encoder learns to detect words (see :mod:`.detection`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from timm.layers import pad_same
from torch import Tensor, nn
from torch.nn import functional as F

from .cache import Progress
from .checkpoint import load_training, save_training
from .detection import WordDetector, detectable_words, detection_loss, pool_scores, word_presence
from .encoder import GridEncoder
from .flickr8k import Photo, split_of
from .grounding import baselines, counts, grounded_words, hit_rates, peaks
from .vocabulary import Vocabulary

Features = Sequence[NDArray[np.float16]]


@dataclass(frozen=True)
class EncoderRecipe:
    """Hyper-parameters of stage 1."""

    epochs: int = 6
    batch: int = 64
    rate: float = 3e-4
    weight_decay: float = 0.02
    seed: int = 0


def cosine(step: int, steps: int, warmup: int) -> float:
    """Factor on the learning rate: a linear warm-up, then half a cosine down to 0."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def low_features(features: Features, version: int, rows: Sequence[int]) -> Tensor:
    """Cached features of some photos, channels-last float32 ``[B, 40, h, w]``."""
    picked = torch.from_numpy(features[version][np.asarray(rows)])
    return picked.float().contiguous(memory_format=torch.channels_last)


def mixed_features(features: Features, rows: Sequence[int], generator: torch.Generator) -> Tensor:
    """As :func:`low_features`, each photo in a version drawn by chance."""
    versions = torch.randint(len(features), (len(rows),), generator=generator).tolist()
    picked = np.stack([features[version][row] for version, row in zip(versions, rows, strict=True)])
    return torch.from_numpy(picked).float().contiguous(memory_format=torch.channels_last)


def trainable(encoder: GridEncoder) -> list[nn.Parameter]:
    """The parameters that training changes: ``blocks.3`` and later, without the depth-wise kernels.

    Depth-wise kernels are 3 % of those parameters, but oneDNN's gradient for them takes 60 % of the time.
    """
    for parameter in encoder.parameters():
        parameter.requires_grad_(False)
    parameters: list[nn.Parameter] = []
    for part in (encoder.blocks[3:], encoder.conv_head, encoder.bn2):
        assert isinstance(part, nn.Module)
        for module in part.modules():
            depthwise = isinstance(module, nn.Conv2d) and module.groups > 1
            if not depthwise:
                parameters.extend(module.parameters(recurse=False))
    for parameter in parameters:
        parameter.requires_grad_(True)
    return parameters


@contextmanager
def dense_strides(encoder: GridEncoder) -> Iterator[None]:
    """Run the depth-wise convolutions of stride 2 densely and drop every other output.

    The result is the same, but oneDNN's input gradient of the strided form is ten times slower than all four times
    more outputs together.
    """

    def dense(conv: nn.Conv2d) -> Callable[[Tensor], Tensor]:
        def forward(x: Tensor) -> Tensor:
            padded = pad_same(x, list(conv.kernel_size), list(conv.stride))
            whole = F.conv2d(padded, conv.weight, conv.bias, groups=conv.groups)
            return whole[:, :, :: conv.stride[0], :: conv.stride[1]]

        return forward

    strided = [
        module
        for module in encoder.blocks[3:].modules()
        if isinstance(module, nn.Conv2d) and module.groups > 1 and module.stride[0] > 1
    ]
    for conv in strided:
        conv.forward = dense(conv)  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        for conv in strided:
            del conv.forward  # back to the class's own


def dev_grounding(
    encoder: GridEncoder,
    detector: WordDetector,
    tokens: Sequence[int],
    vocabulary: Vocabulary,
    photos: Sequence[Photo],
    features: Features,
    rows: Sequence[int],
) -> dict[str, dict[str, float]]:
    """Hit rates of the detector's CAM on the photos ``rows``, next to those of centre and random point."""
    column = {token: at for at, token in enumerate(tokens)}
    known = grounded_words(((row, photos[row].sentences) for row in rows), vocabulary)
    words = [word for word in known if word.token in column]
    found = torch.empty(len(words), 2)
    detector.eval()
    for begin in range(0, len(rows), 50):
        part = rows[begin : begin + 50]
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            maps = detector(encoder.head(encoder.middle(low_features(features, 0, part)))).float()
        at = {row: i for i, row in enumerate(part)}
        mine = [i for i, word in enumerate(words) if word.photo in at]
        if mine:
            chosen = torch.stack([maps[at[words[i].photo], column[words[i].token]] for i in mine])
            found[mine] = peaks(chosen)
    detector.train()
    number = {kind: float(n) for kind, n in counts(words).items()}
    return {"cam": hit_rates(found, words), **baselines(words), "words": number}


def train_encoder(
    encoder: GridEncoder,
    photos: Sequence[Photo],
    features: Features,
    vocabulary: Vocabulary,
    path: Path,
    recipe: EncoderRecipe,
    progress: Progress,
    log: Callable[[str], None],
    limit: int | None = None,
) -> tuple[WordDetector, list[int]]:
    """Fine-tune ``encoder`` in place; resumes from ``path`` and leaves the result there.

    Args:
        encoder: with ImageNet weights.
        photos: all photos.
        features: their cached low-level features, by version.
        vocabulary: the captioners' words.
        path: safetensors file of the state after the last finished epoch.
        recipe: hyper-parameters.
        progress: told how far it is.
        log: told each epoch's figures.
        limit: train on so many photos only.

    Returns:
        The detector and the tokens that its channels stand for.
    """
    torch.manual_seed(recipe.seed)
    rows = split_of(photos, "train", limit)
    dev = split_of(photos, "dev", min(300, limit or 300))
    mine = [photos[row] for row in rows]
    tokens = detectable_words(mine, vocabulary, min_photos=10 if limit is None else 1)
    presence = word_presence(mine, vocabulary, tokens)
    frequency = presence.float().mean(0)
    weight = ((1 - frequency) / frequency.clamp(min=1e-4)).sqrt().clamp(max=5.0)
    detector = WordDetector(encoder.channels, frequency)
    parameters = trainable(encoder)
    optimizer = torch.optim.AdamW(
        [
            {"params": parameters, "lr": recipe.rate, "factor": 1.0},
            {"params": list(detector.parameters()), "lr": recipe.rate, "factor": 5.0},
        ],
        weight_decay=recipe.weight_decay,
    )
    first = 0
    modules = {"encoder": encoder, "detector": detector}
    if path.exists():
        first = int(load_training(path, modules, optimizer)["epochs"])
    per_epoch = math.ceil(len(rows) / recipe.batch)
    steps = per_epoch * recipe.epochs
    for epoch in range(first, recipe.epochs):
        generator = torch.Generator().manual_seed(recipe.seed * 1000 + epoch)
        order = torch.randperm(len(rows), generator=generator).tolist()
        total = 0.0
        for number, begin in enumerate(range(0, len(order), recipe.batch)):
            chosen = order[begin : begin + recipe.batch]
            step = epoch * per_epoch + number
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate * group["factor"] * cosine(step, steps, min(100, steps // 5))
            low = mixed_features(features, [rows[i] for i in chosen], generator)
            with torch.autocast("cpu", torch.bfloat16), dense_strides(encoder):
                maps = detector(encoder.sharp(encoder.middle(low)))
            loss = detection_loss(pool_scores(maps.float()), presence[chosen], weight)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 5.0)
            optimizer.step()
            total += float(loss.detach())
            progress(f"encoder, epoch {epoch + 1} of {recipe.epochs}", number + 1, per_epoch)
        save_training(path, modules, optimizer, {"epochs": epoch + 1})
        grounding = dev_grounding(encoder, detector, tokens, vocabulary, photos, features, dev)
        log(f"encoder epoch {epoch + 1}: loss {total / per_epoch:.2f}; dev words by CAM: {_line(grounding)}")
    if first >= recipe.epochs:
        log("encoder: already trained")
    return detector, tokens


def _line(grounding: dict[str, dict[str, float]]) -> str:
    cam, centre, number = grounding["cam"], grounding["centre"], grounding["words"]
    return ", ".join(f"{kind} {cam[kind]:.3f} (centre {centre[kind]:.3f}, n {number[kind]:.0f})" for kind in cam)
