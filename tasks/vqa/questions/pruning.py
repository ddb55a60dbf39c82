"""Rare answers are dropped and frequent ones thinned (Ren, Kiros & Zemel 2015, appendix on COCO-QA, step "post").

Questions that have several right answers are dropped where models are scored.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Sequence

from .question import Question

MIN_COUNT, MAX_COUNT = 20, 500
"""Those of the questions that the bundled models were taught and scored with."""


def prune(
    questions: Sequence[Question], min_count: int = MIN_COUNT, max_count: int = MAX_COUNT, seed: int = 0
) -> list[Question]:
    """The questions left, in their order.

    In the paper a question whose answer ``a`` has already been taken ``n(a)`` times is taken with probability
    ``min(1, exp((K - n(a)) / K2))``, ``K2 = 2 K``: no answer is cut off, and the logarithm of its count remains.
    Here questions of training photos (all, when no split is named ``train``) are so judged, in a random order; an
    answer asked there fewer than ``min_count`` times is dropped everywhere, and questions of other photos are
    thinned at the rate that training had for their answer: nothing is learned from them.

    Where the captions of such another photo answer a question differently ("child", "boy"), the question is dropped:
    exact match would count a right answer as wrong. In training all its answers stay, for each of them is right.

    Args:
        questions: of all splits.
        min_count: how often an answer must be asked, before thinning.
        max_count: K.
        seed: of the random order and of the draws.
    """
    draw = random.Random(seed)
    splits = {question.split for question in questions}
    training = [i for i, question in enumerate(questions) if "train" not in splits or question.split == "train"]
    asked = Counter(questions[i].answer for i in training)
    draw.shuffle(training)
    taken: Counter[str] = Counter()
    kept = set()
    for i in training:
        answer = questions[i].answer
        if asked[answer] >= min_count and draw.random() < math.exp(
            min(0.0, (max_count - taken[answer]) / (2 * max_count))
        ):
            taken[answer] += 1
            kept.add(i)
    answers: dict[tuple[str, str], set[str]] = defaultdict(set)
    for question in questions:
        answers[question.photo, question.text].add(question.answer)
    for i in sorted(set(range(len(questions))) - set(training)):
        answer = questions[i].answer
        single = len(answers[questions[i].photo, questions[i].text]) == 1
        if single and taken[answer] and draw.random() < taken[answer] / asked[answer]:
            kept.add(i)
    return [questions[i] for i in sorted(kept)]
