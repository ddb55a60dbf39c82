"""Questions made from Flickr8k's captions, whose answers Flickr30k Entities has boxes for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmexplain.errors import InputError
from mmexplain.evaluate.data.flickr8k import ANNOTATIONS, read_all_splits
from mmexplain.evaluate.data.made_questions import kept_questions, made_questions
from mmexplain.tasks.captioning.flickr8k import Photo
from mmexplain.tasks.vqa.examples import generated
from mmexplain.tasks.vqa.pointing import Pointed, answers_by_kind, pointed
from mmexplain.tasks.vqa.questions import read_questions

QUESTIONS = "questions.jsonl"


@dataclass(frozen=True)
class BoxedQuestions:
    """The questions of one split that have boxes, and an answer that a model knows.

    Attributes:
        asked: photos that have such questions, in the file's order, with theirs.
        choices: kind of question → indices of its answers among the model's.
        made: whether the questions were made from the captions, or read from the folder.
    """

    asked: Sequence[tuple[Photo, Sequence[Pointed]]]
    choices: dict[str, list[int]]
    made: bool


def must_be_made(folder: Path) -> bool:
    """Whether reading the questions of a folder means making them, which takes half a minute.

    Raises:
        InputError: it holds no annotations.
    """
    return not (folder / QUESTIONS).is_file() and not kept_questions(folder / ANNOTATIONS).is_file()


def read_boxed_questions(folder: Path, answers: Sequence[str], split: str, seed: int = 0) -> BoxedQuestions:
    """Questions about the photos of a folder in the layout of ``flickr8k``.

    They are those of ``questions.jsonl`` if it is there, as ``python -m mmexplain.tasks.vqa.questions`` writes it;
    otherwise they are made from the captions as that command does by default, in half a minute, and kept
    (:mod:`mmexplain.evaluate.data.made_questions`).

    Args:
        folder: with ``annotations.jsonl.gz``.
        answers: of the model.
        split: of the photos; the wrong answers of each kind are those of the questions of "train".
        seed: of the wrong answers that are drawn.

    Raises:
        InputError: no such folder or split, or what makes the questions is not installed; no question has boxes and a
            known answer.
    """
    photos = read_all_splits(folder, split)
    path = folder / QUESTIONS
    made = not path.is_file()
    questions = made_questions(folder / ANNOTATIONS) if made else read_questions(path)
    source = generated(photos, questions)
    by_photo: dict[int, list[Pointed]] = {}
    for item in pointed(source, answers, split, seed):
        by_photo.setdefault(item.example.photo, []).append(item)
    if not by_photo:
        raise InputError(
            f"no question about the {split!r} photos of {str(folder)!r} has boxes, an answer that the model knows and "
            "another answer to such questions about the 'train' photos"
        )
    return BoxedQuestions(
        [(photos[row], by_photo[row]) for row in sorted(by_photo)],
        answers_by_kind(source.split("train"), answers),
        made,
    )
