"""Participants that are made up: to try an analysis, and to see how many people a study needs, before anybody is asked.

What they answer says nothing of what people would.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from mmexplain.studies.people.plan import COLUMNS, Question, cell, plan, seed_of

Behaviour = Callable[[Question, int, np.random.Generator], int]
"""``(question, the number of the option that is right, random)`` → the option chosen, from 1. In trust the right option
is the one that stands clearly for the better model."""

BEGUN = datetime(2026, 1, 1, tzinfo=UTC)


def guesser(question: Question, right: int, random: np.random.Generator) -> int:
    """Any option, each as likely."""
    return int(random.integers(len(question.options))) + 1


def always_first(question: Question, right: int, random: np.random.Generator) -> int:
    """The first option, whatever is asked: the left one, or A."""
    return 1


def oracle(question: Question, right: int, random: np.random.Generator) -> int:
    """What is right."""
    return right


def sees(chances: Mapping[str, float]) -> Behaviour:
    """Somebody who sees what is right with a chance that depends on the arm, and guesses otherwise.

    Args:
        chances: code of the arm → 0 to 1; 0 for arms that are not named.
    """

    def answer(question: Question, right: int, random: np.random.Generator) -> int:
        return right if random.random() < chances.get(question.arm, 0.0) else guesser(question, right, random)

    return answer


def simulate(
    key: Mapping[str, Any],
    folder: Path,
    count: int,
    behaviour: Behaviour,
    *,
    name: str = "simulated",
    attentive: bool = True,
    seed: int = 0,
) -> list[Path]:
    """Write the files that participants would send who behave so.

    Args:
        key: of the study.
        folder: for the files.
        count: participants.
        behaviour: how they answer.
        name: what they are called, with a number behind it.
        attentive: they answer attention checks rightly; otherwise these too as ``behaviour`` says.
        seed: of their draws.
    """
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    paths = []
    for number in range(count):
        participant = f"{name}-{number:03d}"
        order = seed_of(key["study"], participant)
        clock = BEGUN
        path = folder / f"answers-{key['study']}-{participant}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(COLUMNS))
            writer.writeheader()
            for question in plan(key["design"], order):
                right = right_option(key, question)
                honest = question.kind == "check" and attentive
                chosen = right if honest else behaviour(question, right, random)
                took = int(random.lognormal(8.0, 0.4))
                ended = clock + timedelta(milliseconds=took)
                writer.writerow(
                    {
                        "study": key["study"],
                        "participant": participant,
                        "seed": order,
                        **question.cells(),
                        "answer": chosen,
                        "answer_text": cell(question.options[chosen - 1]),
                        "reaction_ms": took,
                        "reloaded": 0,
                        "started": clock.isoformat(timespec="milliseconds"),
                        "ended": ended.isoformat(timespec="milliseconds"),
                    }
                )
                clock = ended
        paths.append(path)
    return paths


def right_option(key: Mapping[str, Any], question: Question) -> int:
    """The number of the option that is right, from 1: in trust the one that stands clearly for the better model."""
    if question.kind == "check":
        return question.options.index(key["checks"][question.item]["answer"]) + 1
    meant = key["pictures"][question.shown[0]]
    if question.kind == "trust":
        return 1 if meant == "better" else len(question.options)
    return question.options.index(meant) + 1
