"""One page of each sort that mmexplain writes, of explanations whose maps are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from mmexplain.explanation import Explanation, MapKey
from mmexplain.layer_analysis import compare
from mmexplain.render import save_report
from mmexplain.targets import Target
from tests.render.conftest import build
from tests.render.samples import clip, question

KEYS = (("encoder.6", "gradcam"), ("encoder.6", "cam"), ("encoder.3", "gradcam"))


def caption() -> Explanation:
    """All that a caption can have: methods, layers, a phrase, marks on the words before, verdicts, a cropped photo."""
    explanation = build(keys=KEYS, pixels=True, extra=(Target("the grass", "span", (4, 5), 4),))
    added = torch.full((7, 6), torch.nan)
    for number in range(1, 7):
        added[number, : min(number, 4)] = torch.tensor([1.0, -2.0, 0.5, 4.0])[: min(number, 4)]
    explanation.text_maps = {"gradient-x-embedding": added}
    explanation.provenance["unknown_words"] = ["runs"]
    explanation.provenance["sanity"] = [
        {"method": method, "layer": layer, "verdict": verdict, "says": "with random weights the map is another"}
        for (layer, method), verdict in zip(KEYS, ("depends", "partly", "little"), strict=True)
    ]
    return explanation


def unknown_word() -> Explanation:
    """A question with a word that the model does not know."""
    explanation = question()
    explanation.provenance["unknown_words"] = [explanation.words[0]]
    return explanation


def classes() -> Explanation:
    """Classes of a photo, the first with a flat map."""
    explanation = build()
    explanation.task, explanation.text, explanation.words = "classify", None, []
    explanation.targets = [Target(f"class {number}", "class", (number,)) for number in range(6)]
    for maps in explanation.maps.values():
        maps[0] = 0
    return explanation


def layers() -> Explanation:
    """Two targets at four layers of two resolutions."""
    explanation = classes()
    explanation.targets = explanation.targets[:2]
    explanation.scores, explanation.probabilities = explanation.scores[:2], None
    generator = torch.Generator().manual_seed(0)
    explanation.maps = {
        MapKey(f"layer{number}", "gradcam"): torch.rand(2, side, side, generator=generator)
        for number, side in enumerate((8, 8, 4, 4), 1)
    }
    return explanation


SORTS: dict[str, Callable[[Path], Path]] = {
    "caption": lambda path: save_report([caption()], path),
    "question": lambda path: save_report([unknown_word()], path),
    "classes": lambda path: save_report([classes()], path),
    "clip": lambda path: save_report([clip()], path),
    "several": lambda path: save_report([caption(), unknown_word(), clip()], path),
    "layers": lambda path: compare(layers()).save(path),
}
"""What the page is of → writes it to a path."""
