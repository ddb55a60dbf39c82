"""Does the map of an answer point at the thing the question is about, and does a wrong answer's map point elsewhere?

The pointing game of Zhang et al. (2018, "Top-down neural attention by excitation backprop"): the map is upsampled
bilinearly to 224 x 224; a hit is a maximum that lies in any box of the phrase that the question was made from
(Flickr30k Entities). There a maximum may also lie 15 pixels beside; both are counted, the pixels those of the original
photo.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmexplain.errors import InputError
from mmexplain.methods import gradcam
from mmexplain.tasks.captioning.cache import Progress
from mmexplain.tasks.captioning.decoder_training import clean_grids
from mmexplain.tasks.captioning.encoder_training import Features
from mmexplain.tasks.captioning.flickr8k import Box, Photo
from mmexplain.tasks.captioning.grounding import covered, inside, peaks

from .answering import question_tokens
from .examples import Example, Source
from .questions.question import boxes_of
from .weights import BundledVQA

TOLERANCE = 15
"""In pixels of the original photo."""

RULES = ("strict", "tolerant")


@dataclass(frozen=True)
class Pointed:
    """A question with the boxes of what it asks about, and the answers whose maps are drawn.

    Attributes:
        example: the question.
        boxes: fractions of the photo's width and height, as they were drawn ("strict"), and larger by the tolerance
            ("tolerant").
        right: index of the right answer.
        other: index of a wrong answer of the same kind, drawn by chance among those of the training questions.
    """

    example: Example
    boxes: dict[str, tuple[Box, ...]]
    right: int
    other: int


def grown(boxes: Sequence[Box], photo: Photo, pixels: float = TOLERANCE) -> tuple[Box, ...]:
    """The boxes, larger on every side by so many pixels of the original photo.

    Raises:
        InputError: the size of the original is not known.
    """
    if photo.size is None:
        raise InputError(f"the size of the original of {photo.file!r} is not known: pixels cannot be counted")
    x, y = pixels / photo.size[0], pixels / photo.size[1]
    return tuple((x0 - x, y0 - y, x1 + x, y1 + y) for x0, y0, x1, y1 in boxes)


def answers_by_kind(examples: Iterable[Example], answers: Sequence[str]) -> dict[str, list[int]]:
    """For each kind of question the indices in ``answers`` of what is answered to it."""
    column = {answer: number for number, answer in enumerate(answers)}
    found: dict[str, set[int]] = defaultdict(set)
    for example in examples:
        if example.answer in column:
            found[example.kind].add(column[example.answer])
    return {kind: sorted(indices) for kind, indices in found.items()}


def pointed(source: Source, answers: Sequence[str], split: str, seed: int = 0) -> list[Pointed]:
    """The generated questions of ``split`` that have boxes and an answer that the model knows."""
    column = {answer: number for number, answer in enumerate(answers)}
    choices = answers_by_kind(source.split("train"), answers)
    generator = torch.Generator().manual_seed(seed)
    found = []
    for example in source.split(split):
        if example.question is None or example.answer not in column:
            continue
        photo = source.photos[example.photo]
        boxes = boxes_of(example.question, [photo])
        right = column[example.answer]
        wrong = [index for index in choices.get(example.kind, []) if index != right]
        if boxes and wrong:
            other = wrong[int(torch.randint(len(wrong), (), generator=generator))]
            found.append(Pointed(example, dict(zip(RULES, (boxes, grown(boxes, photo)), strict=True)), right, other))
    return found


def likeliest_wrong(logits: Tensor, asked: Sequence[Pointed], choices: Mapping[str, Sequence[int]]) -> Tensor:
    """Of logits ``[R, A]`` the index ``[R]`` of the likeliest wrong answer of each question's kind.

    Args:
        logits: of the answers to R questions.
        asked: the questions.
        choices: see :func:`answers_by_kind`; of each kind that is asked, another answer than the right one too.
    """
    mask = torch.full_like(logits, -torch.inf)
    for row, item in enumerate(asked):
        mask[row, list(choices[item.example.kind])] = 0
        mask[row, item.right] = -torch.inf
    return (logits + mask).argmax(1)


def answer_maps(model: BundledVQA, grid: Tensor, question: Tensor, targets: Sequence[Tensor]) -> list[Tensor]:
    """Grad-CAM (Selvaraju et al. 2017) of the logits of some answers at the encoder's grid.

    Args:
        model: in eval mode.
        grid: ``[R, C, h, w]``, the photo of each question.
        question: ``[R, T]``.
        targets: answers ``[R]``, one map each.

    Returns:
        For each of ``targets`` maps ``[R, h, w]``.
    """
    features = grid.detach().requires_grad_()
    rows = torch.arange(len(question))
    with torch.enable_grad():
        logits = model.decode(features, question).logits
        maps = []
        for target in targets:
            (gradient,) = torch.autograd.grad(logits[rows, target].sum(), features, retain_graph=True)
            maps.append(gradcam(grid[:, None], gradient[:, None])[:, 0])
    return maps


def rates(hits: Mapping[str, Sequence[tuple[str, float]]]) -> dict[str, dict[str, float]]:
    """For each name, of (kind, hit or chance to hit) the mean for ``all`` and by kind."""
    table = {}
    for name, found in hits.items():
        by_kind: dict[str, list[float]] = defaultdict(list)
        for kind, hit in found:
            by_kind["all"].append(hit)
            by_kind[kind].append(hit)
        ranked = sorted(by_kind.items(), key=lambda item: (item[0] != "all", -len(item[1]), item[0]))
        table[name] = {kind: round(sum(values) / len(values), 4) for kind, values in ranked}
    return table


def baselines(asked: Sequence[Pointed], rule: str) -> dict[str, dict[str, float]]:
    """What needs no model: the photo's ``centre``, and a ``random`` point (its expectation)."""
    centre = [(item.example.kind, float(inside(0.5, 0.5, item.boxes[rule]))) for item in asked]
    return rates({"centre": centre, "random": [(item.example.kind, covered(item.boxes[rule])) for item in asked]})


def evaluate_pointing(
    model: BundledVQA, source: Source, middle: Features, split: str, progress: Progress, batch: int = 128
) -> dict[str, dict[str, Any]]:
    """Hit rates of the maps of answers, for ``all`` questions with boxes and by kind.

    Args:
        model: in eval mode.
        source: generated questions.
        middle: cached output of the encoder's blocks for its photos.
        split: which of them.
        progress: told how far it is.
        batch: questions at a time.

    Returns:
        ``questions``: how many. For ``strict`` hits and for ``tolerant`` ones the rates of Grad-CAM of the ``right``
        answer's logit, of the ``likeliest-wrong`` answer's and of a ``random-wrong`` one's (both among the answers of
        the same kind), of the right answer's where the model ``answered-right``; of the model's own ``attention`` if
        it has one; of the photo's ``centre`` and of a ``random`` point.
    """
    asked = pointed(source, model.answers, split)
    choices = answers_by_kind(source.split("train"), model.answers)
    peak: dict[str, list[tuple[float, float]]] = defaultdict(list)
    correct: list[bool] = []
    rows = sorted({item.example.photo for item in asked})
    place = {row: i for i, row in enumerate(rows)}
    grids = clean_grids(model.encoder, middle, rows) if rows else torch.empty(0)
    for begin in range(0, len(asked), batch):
        part = asked[begin : begin + batch]
        grid = grids[[place[item.example.photo] for item in part]].float()
        question = question_tokens([item.example.text for item in part], model.vocabulary)
        with torch.no_grad():
            output = model.decode(grid, question)
        right = torch.tensor([item.right for item in part])
        likeliest = likeliest_wrong(output.logits, part, choices)
        other = torch.tensor([item.other for item in part])
        names = ("right", "likeliest-wrong", "random-wrong")
        maps = dict(zip(names, answer_maps(model, grid, question, (right, likeliest, other)), strict=True))
        if output.attention is not None:
            maps["attention"] = output.attention
        for name, found in maps.items():
            peak[name] += [(x, y) for x, y in peaks(found).tolist()]
        correct += (output.logits.argmax(1) == right).tolist()
        progress("pointing", begin + len(part), len(asked))
    number = Counter(item.example.kind for item in asked)
    result: dict[str, dict[str, Any]] = {"questions": {"all": len(asked), **dict(number.most_common())}}
    for rule in RULES:
        hits = {
            name: [
                (item.example.kind, float(inside(x, y, item.boxes[rule])))
                for item, (x, y) in zip(asked, points, strict=True)
            ]
            for name, points in peak.items()
        }
        hits["answered-right"] = [hit for hit, kept in zip(hits.get("right", []), correct, strict=True) if kept]
        result[rule] = {**rates(hits), **baselines(asked, rule)}
    return result
