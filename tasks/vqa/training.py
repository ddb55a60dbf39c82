"""Train and evaluate one VQA model: ``python -m mmexplain.tasks.vqa.training --help``.

The model learns from generated questions about Flickr8k's photos and from DAQUAR's human ones, over the encoder of a
captioner. Each epoch leaves a checkpoint in the work folder; the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from mmexplain.errors import InputError, MMExplainError
from mmexplain.tasks.captioning.cache import FeatureCache, Progress
from mmexplain.tasks.captioning.checkpoint import sha256
from mmexplain.tasks.captioning.decoder_training import middle_features
from mmexplain.tasks.captioning.encoder_training import Features
from mmexplain.tasks.captioning.training import choose_photos, shown_progress

from .answer_training import Recipe, train_answers
from .card import LIMITS, PROTOCOL, Plan, card, findings
from .daquar import load_daquar
from .evaluation import evaluate_answers
from .examples import Source, answer_space, generated, question_words
from .pointing import evaluate_pointing
from .questions.question import read_questions
from .weights import ARCHITECTURES, load_encoder, load_vqa, save_vqa


def load_sources(plan: Plan) -> list[Source]:
    """Generated and human questions with their photos."""
    flickr8k = generated(choose_photos(plan.data / "flickr8k", plan.limit), read_questions(plan.questions))
    daquar = load_daquar(plan.data / "daquar", plan.limit)
    return [flickr8k, daquar]


def load_features(plan: Plan, sources: Sequence[Source], progress: Progress) -> list[Features]:
    """The cached output of the encoder's blocks for the photos of each source.

    The captioners' training leaves the very same caches for Flickr8k in its work folder.
    """
    encoder = load_encoder(plan.encoder)
    features: list[Features] = []
    for number, source in enumerate(sources):
        work = plan.work if number == 0 else plan.work / source.name
        low = FeatureCache(work, plan.size).build(
            plan.data / source.name, source.photos, encoder, plan.versions, progress
        )
        features.append(middle_features(encoder, low, source.photos, work / f"middle-{plan.size}", progress))
    return features


def train(plan: Plan, progress: Progress, console: Console) -> Path:
    """Training and evaluation; returns the path of the weights."""
    sources = load_sources(plan)
    features = load_features(plan, sources, progress)
    taught = [example for source in sources for example in source.split("train")]
    few = plan.limit is not None
    vocabulary = question_words(taught, min_count=1 if few else 3)
    answers = answer_space(taught, {True: 1, False: 1} if few else {True: 3, False: 8})
    console.print(f"{len(taught)} training questions, {len(vocabulary)} words, {len(answers)} answers")
    model = ARCHITECTURES[plan.architecture](vocabulary, answers)
    model.encoder.load_state_dict(load_encoder(plan.encoder).state_dict())
    folder = plan.work / plan.architecture
    origin = {"questions_file": sha256(plan.questions), "encoder_file": sha256(plan.encoder)}
    selected = train_answers(model, sources, features, folder, plan.recipe, progress, console.print, origin)
    save_vqa(plan.weights, model, card(plan, model, sources, selected))
    return evaluate(plan, sources, features, progress, console)


def evaluate(
    plan: Plan, sources: Sequence[Source], features: Sequence[Features], progress: Progress, console: Console
) -> Path:
    """Score the weights as they lie on disk, in half precision, on ``plan.split``.

    The scores go into the card, beside those on other photos, and what they say against the model into its limits.

    Raises:
        CheckpointError: no weights, or they do not fit.
        InputError: no card beside them.
    """
    model = load_vqa(plan.weights)
    path = plan.weights.with_suffix(".json")
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the card {str(path)!r} of the weights: {error}") from None
    scores = {
        "answers": evaluate_answers(model, sources, features, plan.split, progress),
        "pointing": evaluate_pointing(model, sources[0], features[0], plan.split, progress),
    }
    told["scores"] = {**told.get("scores", {}), plan.split: scores, "protocol": PROTOCOL}
    told["limits"] = [*LIMITS, *findings(scores, plan.split)]
    save_vqa(plan.weights, model, {**told, "date": datetime.now(UTC).date().isoformat()})
    console.print_json(data=scores)
    return plan.weights


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    recipe = Recipe()
    parser = argparse.ArgumentParser(
        prog="python -m mmexplain.tasks.vqa.training",
        description="Train a VQA model, score it, write weights and model card.",
        epilog="Run it again to go on where it stopped.",
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with flickr8k/ and daquar/")
    parser.add_argument("--questions", type=Path, required=True, help="generated questions, one JSON object a line")
    parser.add_argument("--encoder", type=Path, required=True, help="weights of a captioner: its encoder is the start")
    parser.add_argument("--architecture", choices=sorted(ARCHITECTURES), required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights and the card")
    parser.add_argument("--work", type=Path, help="folder for caches (7 GB) and checkpoints; default: OUT/work")
    parser.add_argument("--size", type=int, default=288, help="side of the network's input (default: 288)")
    parser.add_argument("--versions", type=int, default=4, help="augmented versions of each photo (default: 4)")
    parser.add_argument("--epochs", type=int, default=recipe.epochs, help=f"default: {recipe.epochs}")
    parser.add_argument(
        "--detection",
        type=float,
        default=recipe.detection,
        help=f"weight of the answers that single positions give (default: {recipe.detection})",
    )
    parser.add_argument("--limit", type=int, help="use so many photos of each split only")
    parser.add_argument("--note", default="", help="what else the card should say about the training")
    parser.add_argument("--split", choices=("dev", "test"), default="dev", help="photos to score on (default: dev)")
    parser.add_argument("--evaluate-only", action="store_true", help="score the weights in OUT, update their card")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options = arguments(argv)
    console = Console(soft_wrap=True, highlight=False)
    plan = Plan(
        data=options.data,
        questions=options.questions,
        encoder=options.encoder,
        architecture=options.architecture,
        out=options.out,
        work=options.work or options.out / "work",
        size=options.size,
        versions=options.versions,
        limit=options.limit,
        note=options.note,
        split=options.split,
        recipe=replace(Recipe(), epochs=options.epochs, detection=options.detection),
    )
    try:
        with shown_progress(console) as progress:
            if options.evaluate_only:
                sources = load_sources(plan)
                path = evaluate(plan, sources, load_features(plan, sources, progress), progress, console)
            else:
                path = train(plan, progress, console)
    except (MMExplainError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    console.print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
