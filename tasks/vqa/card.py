"""Model cards of VQA models: what a model is, how it was trained, and what its scores say that it cannot do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmexplain.tasks.captioning.checkpoint import sha256

from .answer_training import Recipe
from .examples import Source
from .weights import BundledVQA

LIMITS = (
    "Generated questions are stilted and sometimes wrong, and so are their answers: one word each.",
    "An answer counts as right if it is the very noun of one annotator's caption: 'kid' for 'boy' is wrong.",
    "Questions of other forms (yes or no, why, which) were never seen; an answer is given all the same.",
    "Outdoor photos of people and dogs, and indoor photos of American homes and offices, are all it knows.",
    "A map shows what the model's score depends on, not that the model is right.",
)
PROTOCOL = {
    "answers": "exact match; majority: the usual answer of the kind in training; shuffled: each photo replaced by "
    "another one of the same data set",
    "pointing": "questions with boxes whose answer the model knows; Grad-CAM of an answer's logit at `layer`, "
    "upsampled bilinearly to 224 x 224; a hit is a maximum in a box of the phrase that the question was made from "
    "(strict), or at most 15 pixels of the original photo beside one (tolerant); answered-right: those questions only; "
    "wrong answers: the likeliest one and a random one among the answers to questions of the same kind; random: a "
    "random point's chance",
}


@dataclass(frozen=True)
class Plan:
    """What one command does.

    Attributes:
        data: folder that holds ``flickr8k`` and ``daquar``.
        questions: file of generated questions about Flickr8k's photos.
        encoder: weights whose encoder to start from.
        architecture: ``deeper-lstm-norm-i`` or ``hierarchical-coattention``.
        out: folder of the weights and the card.
        work: folder of caches and checkpoints; the captioners' caches are used where they are there.
        size: side of the network's input.
        versions: augmented versions of each training photo.
        limit: use so many photos of each split only.
        note: what else the card should say about the training.
        split: photos to score on.
        recipe: hyper-parameters.
    """

    data: Path
    questions: Path
    encoder: Path
    architecture: str
    out: Path
    work: Path
    size: int = 288
    versions: int = 4
    limit: int | None = None
    note: str = ""
    split: str = "dev"
    recipe: Recipe = field(default_factory=Recipe)

    @property
    def weights(self) -> Path:
        """Where the weights go."""
        return self.out / f"{self.architecture.replace('-', '_')}.safetensors"


def card(plan: Plan, model: BundledVQA, sources: Sequence[Source], selected: Mapping[str, Any]) -> dict[str, Any]:
    """The model card but for the scores: what the model is, where it comes from, what it can do and cannot.

    Args:
        plan: of the training.
        model: trained.
        sources: what it learned from.
        selected: the epoch that was kept, and its accuracy.
    """
    paper = {
        "deeper-lstm-norm-i": "Antol et al. 2015, VQA: Visual Question Answering, arXiv:1505.00468; "
        "Lu et al. 2015, VQA_LSTM_CNN",
        "hierarchical-coattention": "Lu et al. 2016, Hierarchical Question-Image Co-Attention, arXiv:1606.00061",
    }[plan.architecture]
    command = (
        "python -m mmexplain.tasks.vqa.training --data $MMEXPLAIN_DATA --questions questions.jsonl "
        f"--encoder tasks/zoo/{plan.encoder.name} --architecture {plan.architecture} --out tasks/zoo "
        f"--epochs {plan.recipe.epochs} --detection {plan.recipe.detection}"
    )
    return {
        "name": plan.weights.stem,
        "task": "vqa",
        "architecture": plan.architecture,
        "paper": paper,
        "config": model.config,
        "encoder": f"EfficientNet-Lite0 (timm tf_efficientnet_lite0), of {plan.encoder.stem}; its last convolution "
        "fine-tuned",
        "input_size": plan.size,
        "input": f"RGB, squashed to {plan.size} x {plan.size}, (x - 127) / 128",
        "vocabulary": len(model.vocabulary),
        "answers": len(model.answers),
        "layer": "encoder.smooth",
        "data": {
            "name": "questions generated from the captions of Flickr8k (Hodosh et al. 2013) by the procedure of "
            "COCO-QA (Ren et al. 2015), and DAQUAR (Malinowski & Fritz 2014), questions with one answer; official "
            "splits, every tenth training photo of DAQUAR for development",
            "questions": {
                source.name: {split: len(source.split(split)) for split in ("train", "dev", "test")}
                for source in sources
            },
            "licence": "Flickr8k's photos and captions and DAQUAR (over NYU-Depth v2) are for research and other "
            "non-commercial use. These weights were trained on them; no photo, caption or question is part of this "
            "package.",
            "boxes": "Flickr30k Entities (Plummer et al. 2015), to measure pointing only: no box was trained on",
        },
        "training": {
            "questions": "python -m mmexplain.tasks.vqa.questions $MMEXPLAIN_DATA/flickr8k/annotations.jsonl.gz "
            "--out questions.jsonl",
            "questions_sha256": sha256(plan.questions),
            "command": command,
            **({"note": plan.note} if plan.note else {}),
            "augmented_versions": plan.versions,
            "recipe": asdict(plan.recipe),
            "selection": "the epoch with the best mean accuracy over the kinds of questions about 300 development "
            "photos of each data set",
            "selected": dict(selected),
        },
        "limits": list(LIMITS),
    }


def findings(scores: Mapping[str, Any], split: str) -> list[str]:
    """What the scores on ``split`` say against the model, a sentence each.

    Args:
        scores: ``answers`` (:func:`~mmexplain.tasks.vqa.evaluation.evaluate_answers`) and ``pointing``
            (:func:`~mmexplain.tasks.vqa.pointing.evaluate_pointing`).
        split: of what photos.
    """
    found = []
    for kind, row in scores["answers"].items():
        right, usual, blind = row["accuracy"], row["majority"], row["shuffled"]
        error = math.sqrt(right * (1 - right) / row["questions"])
        told = f"Questions of the kind {kind!r} ({split}): {right:.1%} right"
        if kind == "all":
            continue
        if right < usual + 2 * error:
            found.append(f"{told}, no better than the usual answer ({usual:.1%}).")
        elif right < 2 * blind:
            found.append(f"{told}, {blind:.1%} with the wrong photo: most of it comes from the question alone.")
    for rule in ("strict", "tolerant"):
        table = scores["pointing"][rule]
        for name, what in (("right", "Grad-CAM of the right answer"), ("attention", "The model's own attention")):
            if table.get(name):
                hit, centre = table[name]["all"], table["centre"]["all"]
                told = "better than" if hit > centre else "no better than"
                found.append(f"{what} points {told} the photo's centre ({split}, {rule}): {hit:.1%}, {centre:.1%}.")
    return found
