"""Stage 2 of training: a decoder learns to caption, and the encoder's last layer with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from .cache import Progress
from .checkpoint import load_training, save_training
from .detection import detection_loss, pool_scores, word_presence
from .encoder import GridEncoder
from .encoder_training import Features, cosine, low_features, mixed_features
from .evaluation import caption_tokens, evaluate_captions, evaluate_grounding
from .flickr8k import Photo, split_of
from .show_attend_tell import doubly_stochastic
from .vocabulary import tokenize
from .weights import BundledCaptioner

CAPTIONS = 5
"""Human captions of each photo."""


@dataclass(frozen=True)
class DecoderRecipe:
    """Hyper-parameters of stage 2."""

    epochs: int = 6
    batch: int = 32
    rate: float = 1e-3
    head_factor: float = 0.1
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    detection: float = 0.01
    coverage: float = 1.0
    longest: int = 17
    seed: int = 0


def middle_features(
    encoder: GridEncoder,
    features: Features,
    photos: Sequence[Photo],
    root: Path,
    progress: Progress,
    batch: int = 64,
) -> list[NDArray[np.float16]]:
    """The last block's output for every cached version of every photo, ``[N, 320, h, w]`` each; kept in ``root``."""
    train = [row for row, photo in enumerate(photos) if photo.split == "train"]
    root.mkdir(parents=True, exist_ok=True)
    arrays = []
    for version, low in enumerate(features):
        path = root / f"middle-{version}.npy"
        if not path.exists():
            partial = path.with_suffix(".partial")
            side = math.ceil(low.shape[-1] / 4)
            out = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float16, shape=(len(photos), 320, side, side))
            rows = train if version else list(range(len(photos)))
            for begin in range(0, len(rows), batch):
                at = rows[begin : begin + batch]
                with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                    out[at] = encoder.middle(low_features(features, version, at)).to(torch.float16).numpy()
                progress(f"fine-tuned features, version {version}", begin + len(at), len(rows))
            out.flush()
            partial.rename(path)
        arrays.append(np.load(path, mmap_mode="r", allow_pickle=False))
    return arrays


def clean_grids(encoder: GridEncoder, middle: Features, rows: Sequence[int], batch: int = 100) -> Tensor:
    """Grids of the clean photos ``rows``: float16 ``[len(rows), 1280, h, w]``."""
    grids = []
    with torch.no_grad():
        for begin in range(0, len(rows), batch):
            grids.append(encoder.head(low_features(middle, 0, rows[begin : begin + batch])).half())
    return torch.cat(grids).contiguous()


def head_and_decoder(
    model: Any, rate: float, head_factor: float, weight_decay: float
) -> tuple[torch.optim.AdamW, list[nn.Parameter]]:
    """What a model over a :class:`GridEncoder` learns: the encoder's last convolution, slowly, and all behind it; the
    encoder's blocks stay as they are.

    Args:
        model: has an ``encoder``.
        rate: learning rate.
        head_factor: each group's share of it is kept as ``"factor"``: this for the convolution, 1 for the rest.
        weight_decay: of AdamW.

    Returns:
        The optimizer, and all parameters that it moves.
    """
    encoder = model.encoder
    for parameter in encoder.parameters():
        parameter.requires_grad_(False)
    head = [*encoder.conv_head.parameters(), *encoder.bn2.parameters()]
    for parameter in head:
        parameter.requires_grad_(True)
    decoder = [p for name, p in model.named_parameters() if not name.startswith("encoder.")]
    groups = [
        {"params": head, "lr": rate, "factor": head_factor},
        {"params": decoder, "lr": rate, "factor": 1.0},
    ]
    return torch.optim.AdamW(groups, weight_decay=weight_decay, betas=(0.9, 0.98)), [*head, *decoder]


def captioning_loss(captioner: BundledCaptioner, grid: Tensor, tokens: Tensor, recipe: DecoderRecipe) -> Tensor:
    """Cross-entropy per word, plus Xu et al.'s coverage term if the model attends.

    Args:
        captioner: in train mode.
        grid: ``[B, C, h, w]``.
        tokens: ``[5 B, T]``, padded.
        recipe: weights of the terms.
    """
    output = captioner.decode(grid, tokens)
    mask = tokens != captioner.vocabulary.pad
    logits = captioner.project(output.hidden[mask]).float()
    loss = F.cross_entropy(logits, tokens[mask], label_smoothing=recipe.label_smoothing)
    if output.attention is not None:
        loss = loss + recipe.coverage * doubly_stochastic(output.attention, mask)
    return loss


def train_decoder(
    captioner: BundledCaptioner,
    photos: Sequence[Photo],
    middle: Features,
    detectable: Sequence[int],
    folder: Path,
    recipe: DecoderRecipe,
    progress: Progress,
    log: Callable[[str], None],
    limit: int | None = None,
) -> None:
    """Train ``captioner`` in place and end with its best epoch, by BLEU-4 on the development photos.

    Its encoder's blocks stay as stage 1 left them; ``conv_head`` goes on learning, slowly.

    Args:
        captioner: with the encoder of stage 1.
        photos: all photos.
        middle: cached output of the encoder's blocks, by version.
        detectable: tokens of the words that are detected.
        folder: where the state after the last epoch and the best one is kept; training resumes from there.
        recipe: hyper-parameters.
        progress: told how far it is.
        log: told each epoch's figures.
        limit: train on so many photos only.
    """
    torch.manual_seed(recipe.seed)
    vocabulary = captioner.vocabulary
    rows, dev = split_of(photos, "train", limit), split_of(photos, "dev", min(300, limit or 300))
    mine = [photos[row] for row in rows]
    words = [[tokenize(caption) for caption in photo.captions] for photo in mine]
    presence = word_presence(mine, vocabulary, detectable)
    frequency = presence.float().mean(0)
    weight = ((1 - frequency) / frequency.clamp(min=1e-4)).sqrt().clamp(max=5.0)
    wanted = torch.tensor(list(detectable))

    encoder = captioner.encoder
    optimizer, trained = head_and_decoder(captioner, recipe.rate, recipe.head_factor, recipe.weight_decay)
    last, best = folder / "last.safetensors", folder / "best.safetensors"
    first, best_score = 0, -1.0
    if last.exists():
        header = load_training(last, {"captioner": captioner}, optimizer)
        first, best_score = int(header["epochs"]), float(header["best"])
    per_epoch = math.ceil(len(rows) / recipe.batch)
    steps = per_epoch * recipe.epochs
    for epoch in range(first, recipe.epochs):
        captioner.train()
        generator = torch.Generator().manual_seed(recipe.seed * 1000 + epoch)
        order = torch.randperm(len(rows), generator=generator).tolist()
        sums = torch.zeros(2)
        for number, begin in enumerate(range(0, len(order), recipe.batch)):
            chosen = order[begin : begin + recipe.batch]
            for group in optimizer.param_groups:
                at = epoch * per_epoch + number
                group["lr"] = recipe.rate * group["factor"] * cosine(at, steps, min(150, steps // 5))
            features = mixed_features(middle, [rows[i] for i in chosen], generator)
            tokens = caption_tokens([caption for i in chosen for caption in words[i]], vocabulary, recipe.longest)
            with torch.autocast("cpu", torch.bfloat16):
                grid = encoder.head(features)
                caption = captioning_loss(captioner, grid, tokens, recipe)
                scores = captioner.detect(grid, wanted)
            detected = detection_loss(pool_scores(scores.float()), presence[chosen], weight)
            optimizer.zero_grad()
            (caption + recipe.detection * detected).backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            sums += torch.stack([caption.detach(), detected.detach()]).float()
            progress(f"{captioner.architecture}, epoch {epoch + 1} of {recipe.epochs}", number + 1, per_epoch)
        captioner.eval()
        grids = clean_grids(encoder, middle, dev)
        scores_now = evaluate_captions(captioner, grids, photos, dev, beam=3)
        part = dev[:100]
        grounding = evaluate_grounding(captioner, grids[: len(part)], photos, part, progress)
        bleu = float(scores_now["bleu-4"])
        if bleu > best_score:
            best_score = bleu
            save_training(best, {"captioner": captioner}, None, {"epochs": epoch + 1, "bleu-4": bleu})
        save_training(last, {"captioner": captioner}, optimizer, {"epochs": epoch + 1, "best": best_score})
        log(f"{captioner.architecture} epoch {epoch + 1}: {_line(sums / per_epoch, scores_now, grounding)}")
    load_training(best, {"captioner": captioner})
    captioner.eval()


def _line(losses: Tensor, captions: dict[str, Any], grounding: dict[str, Any]) -> str:
    """An epoch's figures for people to read."""
    words = "; ".join(
        f"{kind} {rate:.3f} (log-probability {grounding['grad-cam'][kind]:.3f}, "
        f"attention {grounding.get('attention', {}).get(kind, math.nan):.3f}, "
        f"centre {grounding['centre'][kind]:.3f})"
        for kind, rate in list(grounding["grad-cam-logit"].items())[:7]
    )
    return (
        f"caption loss {losses[0]:.3f}, detection {losses[1]:.1f}; dev BLEU-4 {captions['bleu-4']:.4f} "
        f"(shuffled {captions['shuffled']['bleu-4']:.4f}); words by the logit's Grad-CAM: {words}"
    )
