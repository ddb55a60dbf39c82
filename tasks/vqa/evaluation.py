"""How good a VQA model is: how often it is right, and how much of that needs the photo."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from mmexplain.tasks.captioning.cache import Progress
from mmexplain.tasks.captioning.decoder_training import clean_grids
from mmexplain.tasks.captioning.encoder_training import Features

from .answering import question_tokens
from .examples import Example, Source
from .weights import BundledVQA


def derangement(n: int, seed: int = 0) -> list[int]:
    """A random permutation of 0 .. n-1, n > 1, that leaves nothing in its place (one single cycle)."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist()
    other = [0] * n
    for here, there in zip(order, [*order[1:], *order[:1]], strict=True):
        other[here] = there
    return other


def majority(examples: Iterable[Example]) -> dict[str, str]:
    """The most frequent answer to each kind of question (ties by alphabet)."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for example in examples:
        counts[example.kind][example.answer] += 1
    return {kind: min(found, key=lambda answer: (-found[answer], answer)) for kind, found in counts.items()}


def accuracies(
    examples: Sequence[Example], said: Sequence[str], shuffled: Sequence[str], usual: dict[str, str]
) -> dict[str, dict[str, float]]:
    """Accuracy for ``all`` questions and by kind.

    Args:
        examples: the questions.
        said: the model's answer to each.
        shuffled: its answer to each with the photo of another question.
        usual: the majority answer of each kind.

    Returns:
        For each kind: ``questions`` (how many), ``accuracy``, ``majority`` (of always giving the usual answer),
        ``shuffled``, and ``gain`` (accuracy above shuffled); shares of 1.
    """
    rows: dict[str, list[tuple[bool, bool, bool]]] = defaultdict(list)
    for example, answer, blind in zip(examples, said, shuffled, strict=True):
        row = (answer == example.answer, usual.get(example.kind) == example.answer, blind == example.answer)
        rows["all"].append(row)
        rows[example.kind].append(row)
    table = {}
    for kind, found in sorted(rows.items(), key=lambda item: (item[0] != "all", -len(item[1]), item[0])):
        right, usual_right, blind_right = (sum(column) / len(found) for column in zip(*found, strict=True))
        table[kind] = {
            "questions": len(found),
            "accuracy": round(right, 4),
            "majority": round(usual_right, 4),
            "shuffled": round(blind_right, 4),
            "gain": round(right - blind_right, 4),
        }
    return table


def answer(model: BundledVQA, grids: Tensor, rows: Sequence[int], texts: Sequence[str], batch: int = 256) -> list[str]:
    """The likeliest answer to each of R questions.

    Args:
        model: in eval mode.
        grids: ``[N, C, h, w]``, any floating type.
        rows: for each question, which grid it is about.
        texts: the questions.
        batch: questions at a time.
    """
    best: list[int] = []
    with torch.no_grad():
        for begin in range(0, len(texts), batch):
            part = slice(begin, begin + batch)
            tokens = question_tokens(list(texts[part]), model.vocabulary)
            best += model.decode(grids[list(rows[part])].float(), tokens).logits.argmax(1).tolist()
    return [model.answers[index] for index in best]


def evaluate_answers(
    model: BundledVQA,
    sources: Sequence[Source],
    features: Sequence[Features],
    split: str,
    progress: Progress,
    limit: int | None = None,
) -> dict[str, dict[str, float]]:
    """The table of :func:`accuracies` for all questions about the (first ``limit``) photos of ``split``.

    Shuffled means that each photo is replaced by another one of the same source. The majority is that of the training
    questions. An answer that the model does not know counts as wrong.
    """
    asked: list[Example] = []
    said: list[str] = []
    blind: list[str] = []
    usual: dict[str, str] = {}
    for source, middle in zip(sources, features, strict=True):
        usual.update(majority(source.split("train")))
        examples = source.split(split)
        rows = sorted({example.photo for example in examples})[:limit]
        place = {row: i for i, row in enumerate(rows)}
        examples = [example for example in examples if example.photo in place]
        if not rows:
            continue
        other = derangement(len(rows))
        grids = clean_grids(model.encoder, middle, rows)
        own = [place[example.photo] for example in examples]
        texts = [example.text for example in examples]
        asked += examples
        said += answer(model, grids, own, texts)
        progress(f"{source.name}, {split}", 1, 2)
        blind += answer(model, grids, [other[i] for i in own], texts)
        progress(f"{source.name}, {split}", 2, 2)
    return accuracies(asked, said, blind, usual)
