"""A VQA model learns to answer over the cached features of a captioner's encoder, whose last layer learns with it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexplain.errors import CheckpointError
from mmexplain.tasks.captioning.cache import Progress
from mmexplain.tasks.captioning.checkpoint import load_training, read_tensors, save_training
from mmexplain.tasks.captioning.decoder_training import head_and_decoder
from mmexplain.tasks.captioning.detection import pool_scores
from mmexplain.tasks.captioning.encoder_training import Features, cosine, mixed_features

from .answering import question_tokens
from .evaluation import evaluate_answers
from .examples import Example, Source
from .weights import BundledVQA


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters.

    Attributes:
        epochs: how often each photo is seen.
        photos: photos in a batch.
        questions: questions about each of them, drawn by chance.
        rate: highest learning rate.
        head_factor: the encoder's last layer learns so much slower.
        weight_decay: of AdamW.
        label_smoothing: of the cross-entropy.
        detection: weight of the answers that single positions give.
        detected: one photo in so many is asked that.
        seed: of all chance.
    """

    epochs: int = 12
    photos: int = 64
    questions: int = 5
    rate: float = 1e-3
    head_factor: float = 0.1
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    detection: float = 1.0
    detected: int = 2
    seed: int = 0


@dataclass(frozen=True)
class Batch:
    """The rows of some photos of one source, and ``questions`` examples of each, photo by photo."""

    source: int
    rows: list[int]
    examples: list[Example]


def draw_batches(
    sources: Sequence[Source], answers: Sequence[str], recipe: Recipe, generator: torch.Generator
) -> list[Batch]:
    """An epoch: every training photo once, in batches of one source each, in random order.

    Questions whose answer is not among ``answers`` are left out. Of a photo's other questions ``recipe.questions`` are
    drawn; where there are fewer, some are drawn twice.
    """
    known = set(answers)
    batches = []
    for number, source in enumerate(sources):
        asked: dict[int, list[Example]] = defaultdict(list)
        for example in source.split("train"):
            if example.answer in known:
                asked[example.photo].append(example)
        rows = list(asked)
        order = torch.randperm(len(rows), generator=generator).tolist()
        for begin in range(0, len(order), recipe.photos):
            chosen = [rows[i] for i in order[begin : begin + recipe.photos]]
            examples = []
            for row in chosen:
                mine = asked[row]
                drawn: list[int] = []
                while len(drawn) < recipe.questions:
                    drawn += torch.randperm(len(mine), generator=generator).tolist()
                examples += [mine[i] for i in drawn[: recipe.questions]]
            batches.append(Batch(number, chosen, examples))
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def answer_loss(model: BundledVQA, grid: Tensor, batch: Batch, recipe: Recipe) -> Tensor:
    """Cross-entropy of the right answers, plus that of the answers that single positions give, pooled.

    The second term asks one question about some of the photos, and makes the evidence for an answer stand where the
    thing is: trained on whole photos alone, a model finds the context as good.

    Args:
        model: in train mode.
        grid: ``[len(batch.rows), C, h, w]``.
        batch: what is asked.
        recipe: weights of the terms and label smoothing.
    """
    column = {answer: number for number, answer in enumerate(model.answers)}
    right = torch.tensor([column[example.answer] for example in batch.examples])
    texts = [example.text for example in batch.examples]
    question = question_tokens(texts, model.vocabulary)
    logits = model.decode(grid, question).logits.float()
    loss = F.cross_entropy(logits, right, label_smoothing=recipe.label_smoothing)
    if recipe.detection:
        first = slice(None, None, recipe.questions * recipe.detected)
        found = pool_scores(model.detect(grid[:: recipe.detected], question[first]).float())
        loss = loss + recipe.detection * F.cross_entropy(found, right[first], label_smoothing=recipe.label_smoothing)
    return loss


def require_same(path: Path, made_of: Mapping[str, Any]) -> None:
    """Refuse to go on from a half-done training of something else.

    Args:
        path: of the state.
        made_of: recipe, answers and digests of files.

    Raises:
        CheckpointError: any of them was another one.
    """
    _, header = read_tensors(path)
    before = header.get("made_of", {})
    changed = [name for name, value in made_of.items() if before.get(name) != value]
    if changed:
        raise CheckpointError(
            f"'{path}' was trained with other {', '.join(changed)}: give the same again, or another --work folder"
        )


def train_answers(
    model: BundledVQA,
    sources: Sequence[Source],
    features: Sequence[Features],
    folder: Path,
    recipe: Recipe,
    progress: Progress,
    log: Callable[[str], None],
    origin: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Train ``model`` in place and end with its best epoch, by mean accuracy over the kinds of development questions.

    Its encoder's blocks stay as they are; ``conv_head`` goes on learning, slowly.

    Args:
        model: with the encoder whose blocks made ``features``.
        sources: photos and questions.
        features: for each source the cached output of the encoder's blocks, by augmented version.
        folder: where the state after the last epoch and the best one is kept; training resumes from there.
        recipe: hyper-parameters.
        progress: told how far it is.
        log: told each epoch's figures.
        origin: digests of the files that ``model`` and ``sources`` come from, by name. They are kept with the state,
            as are ``recipe`` and the answers.

    Returns:
        The ``epoch`` that is kept, from 1, and its ``accuracy``.

    Raises:
        CheckpointError: what is in ``folder`` was trained with another recipe, other answers or from other files.
    """
    torch.manual_seed(recipe.seed)
    encoder = model.encoder
    optimizer, trained = head_and_decoder(model, recipe.rate, recipe.head_factor, recipe.weight_decay)
    last, best = folder / "last.safetensors", folder / "best.safetensors"
    made_of = {**asdict(recipe), **(origin or {}), "answers": model.answers}
    first, best_score = 0, -1.0
    if last.exists():
        require_same(last, made_of)
        header = load_training(last, {"model": model}, optimizer)
        first, best_score = int(header["epochs"]), float(header["best"])
    for epoch in range(first, recipe.epochs):
        model.train()
        generator = torch.Generator().manual_seed(recipe.seed * 1000 + epoch)
        torch.manual_seed(recipe.seed * 1000 + epoch)  # of the dropout, so that a resumed epoch is the same
        batches = draw_batches(sources, model.answers, recipe, generator)
        steps, total = len(batches) * recipe.epochs, 0.0
        for number, batch in enumerate(batches):
            for group in optimizer.param_groups:
                at = epoch * len(batches) + number
                group["lr"] = recipe.rate * group["factor"] * cosine(at, steps, min(100, steps // 5))
            middle = mixed_features(features[batch.source], batch.rows, generator)
            with torch.autocast("cpu", torch.bfloat16):
                loss = answer_loss(model, encoder.head(middle), batch, recipe)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            total += float(loss.detach())
            progress(f"{model.architecture}, epoch {epoch + 1} of {recipe.epochs}", number + 1, len(batches))
        model.eval()
        scores = evaluate_answers(model, sources, features, "dev", progress, limit=300)
        score = sum(row["accuracy"] for kind, row in scores.items() if kind != "all") / (len(scores) - 1)
        if score > best_score:
            best_score = score
            save_training(best, {"model": model}, None, {"epochs": epoch + 1, "accuracy": score, "made_of": made_of})
        save_training(last, {"model": model}, optimizer, {"epochs": epoch + 1, "best": best_score, "made_of": made_of})
        figures = ", ".join(f"{kind} {row['accuracy']:.3f} ({row['shuffled']:.3f})" for kind, row in scores.items())
        log(f"{model.architecture} epoch {epoch + 1}: loss {total / len(batches):.3f}; dev (shuffled): {figures}")
    kept = load_training(best, {"model": model})
    model.eval()
    return {"epoch": kept["epochs"], "accuracy": round(kept["accuracy"], 4)}
