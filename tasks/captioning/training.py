"""Train and evaluate one captioner on Flickr8k: ``python -m mmexplain.tasks.captioning.training --help``.

Stage 1 fine-tunes the encoder to detect words (once: both architectures share it through the work folder), stage 2
trains the decoder. Each epoch leaves a checkpoint in the work folder; the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from .cache import FeatureCache, Progress
from .decoder_training import DecoderRecipe, clean_grids, middle_features, train_decoder
from .encoder import GridEncoder
from .encoder_training import EncoderRecipe, Features, train_encoder
from .evaluation import evaluate_captions, evaluate_grounding
from .flickr8k import Photo, load_annotations, split_of
from .vocabulary import Vocabulary
from .weights import ARCHITECTURES, BundledCaptioner, load_captioner, save_captioner


@dataclass(frozen=True)
class Plan:
    """What one command does.

    Attributes:
        data: folder of Flickr8k.
        architecture: ``show-attend-tell`` or ``show-and-tell``.
        out: folder of the weights and the card.
        work: folder of caches and checkpoints.
        size: side of the network's input.
        versions: augmented versions of each training photo.
        beam: width of the beam search in the evaluation.
        limit: use so many photos of each split only.
        note: what else the card should say about the training.
        encoder: recipe of stage 1.
        decoder: recipe of stage 2.
    """

    data: Path
    architecture: str
    out: Path
    work: Path
    size: int = 288
    versions: int = 4
    beam: int = 3
    limit: int | None = None
    note: str = ""
    encoder: EncoderRecipe = field(default_factory=EncoderRecipe)
    decoder: DecoderRecipe = field(default_factory=DecoderRecipe)


def choose_photos(data: Path, limit: int | None) -> list[Photo]:
    """The photos of the official splits, or the first ``limit`` of each."""
    photos = load_annotations(data)
    rows = sorted(row for split in ("train", "dev", "test") for row in split_of(photos, split, limit))
    return [photos[row] for row in rows]


def train(plan: Plan, progress: Progress, console: Console) -> Path:
    """Both stages and the evaluation; returns the path of the weights."""
    photos = choose_photos(plan.data, plan.limit)
    captions = (caption for photo in photos if photo.split == "train" for caption in photo.captions)
    vocabulary = Vocabulary.build(captions, min_count=5 if plan.limit is None else 2)
    encoder = GridEncoder()
    encoder.load_imagenet()
    encoder.to(memory_format=torch.channels_last)
    console.print(f"{len(photos)} photos, {len(vocabulary)} words")

    cache = FeatureCache(plan.work, plan.size)
    low = cache.build(plan.data, photos, encoder, plan.versions, progress)
    state = plan.work / "encoder.safetensors"
    detector, detectable = train_encoder(
        encoder, photos, low, vocabulary, state, plan.encoder, progress, console.print, plan.limit
    )
    middle = middle_features(encoder, low, photos, plan.work / f"middle-{plan.size}", progress)

    captioner = ARCHITECTURES[plan.architecture](vocabulary)
    captioner.encoder.load_state_dict(encoder.state_dict())
    assert detector.score.bias is not None
    captioner.adopt_detector(detector.score.weight.detach().flatten(1), detector.score.bias.detach(), detectable)
    folder = plan.work / plan.architecture
    train_decoder(captioner, photos, middle, detectable, folder, plan.decoder, progress, console.print, plan.limit)

    path = plan.out / f"{plan.architecture.replace('-', '_')}.safetensors"
    save_captioner(path, captioner, card(plan, captioner, photos, {}))
    shipped = load_captioner(path)  # in half precision on disk: what is scored is what is shipped
    scores = evaluate(shipped, photos, split_of(photos, "test"), middle, plan.beam, progress)
    save_captioner(path, captioner, card(plan, captioner, photos, scores))
    console.print_json(data=scores)
    return path


def evaluate(
    captioner: BundledCaptioner,
    photos: Sequence[Photo],
    rows: Sequence[int],
    middle: Features,
    beam: int,
    progress: Progress,
) -> dict[str, Any]:
    """Captions and grounding on the photos ``rows``."""
    captioner.eval()
    grids = clean_grids(captioner.encoder, middle, rows)
    return {
        "captions": evaluate_captions(captioner, grids, photos, rows, beam),
        "grounding": evaluate_grounding(captioner, grids, photos, rows, progress),
    }


def card(plan: Plan, captioner: BundledCaptioner, photos: Sequence[Photo], scores: dict[str, Any]) -> dict[str, Any]:
    """The model card: what the model is, where it comes from, what it can do and cannot."""
    name = plan.architecture.replace("-", "_")
    paper = {
        "show-attend-tell": "Xu et al. 2015, Show, Attend and Tell (soft attention), arXiv:1502.03044",
        "show-and-tell": "Vinyals et al. 2015, Show and Tell, arXiv:1411.4555",
    }[plan.architecture]
    return {
        "name": name,
        "task": "caption",
        "architecture": plan.architecture,
        "paper": paper,
        "config": captioner.config,
        "encoder": "EfficientNet-Lite0 (timm tf_efficientnet_lite0), ImageNet weights, fine-tuned by word detection",
        "input_size": plan.size,
        "input": f"RGB, squashed to {plan.size} x {plan.size}, (x - 127) / 128",
        "vocabulary": len(captioner.vocabulary),
        "layer": "encoder.smooth",
        "data": {
            "name": "Flickr8k (Hodosh et al. 2013), official splits; photos as stored at 224 x 224",
            "photos": {split: len(split_of(photos, split)) for split in ("train", "dev", "test")},
            "licence": "Flickr8k's photos and captions are for research and other non-commercial use. These weights "
            "were trained on them; no photo or caption is part of this package.",
            "boxes": "Flickr30k Entities (Plummer et al. 2015), to measure grounding only: no box was trained on",
        },
        "training": {
            "command": "python -m mmexplain.tasks.captioning.training --data $MMEXPLAIN_DATA/flickr8k "
            f"--architecture {plan.architecture} --out tasks/zoo --encoder-epochs {plan.encoder.epochs} "
            f"--epochs {plan.decoder.epochs}",
            **({"note": plan.note} if plan.note else {}),
            "augmented_versions": plan.versions,
            "encoder": asdict(plan.encoder),
            "decoder": asdict(plan.decoder),
            "selection": "the epoch with the best BLEU-4 on 300 development photos",
        },
        "scores": {
            "split": "test; epochs and layer were chosen on development photos",
            **scores,
            "grounding_protocol": "head words of boxed phrases in the human captions; a hit is a maximum of the "
            "bilinearly upsampled map inside any box of the phrase; maps at `layer`, teacher forced; grad-cam "
            "and grad-cam++: of the word's log-probability, grad-cam-logit: of its score before the softmax",
        },
        "limits": [
            "Trained on 6,000 photos, mostly of people and dogs outdoors: it misnames much of everything else.",
            "Captions carry the annotators' guesses about people (gender, age, what they do); so will the model's.",
            "A map shows what the model's score depends on, not that the model is right.",
            # measured once, on the models that are shipped
            "Grad-CAM++ marks the salient thing more than the word: with the map of another word of the same photo it "
            "still hits for 59 % of the words (200 development photos; centre 56 %), Grad-CAM of the logit for 40 to "
            "42 %.",
            "The grid's average is padded with zeros, which damps maps near the border: part of the gain in grounding "
            "is a pull to the centre.",
        ],
        "date": datetime.now(UTC).date().isoformat(),
    }


@contextmanager
def shown_progress(console: Console) -> Iterator[Progress]:
    """Bars on a terminal; on anything else a line every half minute."""
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Bar(*columns, console=console, transient=True) as bar:
            tasks: dict[str, Any] = {}

            def show(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    tasks[what] = bar.add_task(what, total=total)
                bar.update(tasks[what], completed=done, visible=done < total)

            yield show
        return
    last = time.monotonic()

    def tell(what: str, done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last > 30:
            last = time.monotonic()
            console.print(f"{what}: {done}/{total}")

    yield tell


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    encoder, decoder = EncoderRecipe(), DecoderRecipe()
    parser = argparse.ArgumentParser(
        prog="python -m mmexplain.tasks.captioning.training",
        description="Train a captioner on Flickr8k, evaluate it on the test photos, write weights and model card.",
        epilog="Run it again to go on where it stopped. Both architectures share the encoder through --work.",
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with annotations.jsonl.gz and images/")
    parser.add_argument("--architecture", choices=sorted(ARCHITECTURES), required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights and the card")
    parser.add_argument("--work", type=Path, help="folder for caches (6 GB) and checkpoints; default: OUT/work")
    parser.add_argument("--size", type=int, default=288, help="side of the network's input (default: 288)")
    parser.add_argument("--versions", type=int, default=4, help="augmented versions of each photo (default: 4)")
    parser.add_argument("--encoder-epochs", type=int, default=encoder.epochs, help=f"default: {encoder.epochs}")
    parser.add_argument("--epochs", type=int, default=decoder.epochs, help=f"default: {decoder.epochs}")
    parser.add_argument("--beam", type=int, default=3, help="beam width in the evaluation (default: 3)")
    parser.add_argument("--limit", type=int, help="use so many photos of each split only")
    parser.add_argument("--note", default="", help="what else the card should say about the training")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options = arguments(argv)
    if not (options.data / "annotations.jsonl.gz").exists():
        print(f"'{options.data}' holds no annotations.jsonl.gz", file=sys.stderr)
        return 2
    console = Console(soft_wrap=True, highlight=False)
    plan = Plan(
        data=options.data,
        architecture=options.architecture,
        out=options.out,
        work=options.work or options.out / "work",
        size=options.size,
        versions=options.versions,
        beam=options.beam,
        limit=options.limit,
        note=options.note,
        encoder=EncoderRecipe(epochs=options.encoder_epochs),
        decoder=DecoderRecipe(epochs=options.epochs),
    )
    with shown_progress(console) as progress:
        console.print(f"wrote {train(plan, progress, console)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
