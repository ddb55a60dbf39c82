"""Where word grounding fails, and what helps: the worst words, and remedies in target, layer, method and input.

python benchmarks/word_grounding.py --data $MMEXPLAIN_DATA

Remedies are compared on development photos; the worst words are those of the test photos. Measured rows are kept in
--work, so that an interrupted run goes on. Writes the section of benchmarks/RESULTS.md to --out; ``protocols.py`` calls
:func:`section` for the whole file.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import rich.progress
import torch
from common import positive, table
from PIL import ImageOps
from saved import run_or_keep
from torch import Tensor
from torch.nn import functional

from mmexplain.evaluate.captions import CaptionedPhotos, Given
from mmexplain.evaluate.grounding import WordGrounding
from mmexplain.evaluate.grounding_rows import Maps, Named, centre_row, random_row
from mmexplain.evaluate.intervals import Mean, difference, mean
from mmexplain.evaluate.metrics.pointing import hit
from mmexplain.evaluate.protocol import Progress, Row
from mmexplain.explanation import Explanation, MapKey
from mmexplain.io import load_image
from mmexplain.render.whole import whole
from mmexplain.tasks.registry import load

MODEL = "show-attend-tell"
BASE = "layercam"
"""The method that remedies change, and that the worst words are those of: the best one in the tables of methods."""

METHODS = ("gradcam", "gradcam++", "hirescam", "layercam", "xgradcam", "eigengradcam", "attention")
EARLIER = {"the grid before smoothing": "encoder.bn2", "block 4 (14 × 14)": "encoder.blocks.4"}
DEVELOPMENT = 400
"""Photos that remedies are compared on."""

LARGER = {"photo at 320 pixels": 320, "photo at 384 pixels": 384}
"""Sides that the model reads the photo at instead of its own; the encoder takes any."""

KINDS = {
    "target": ("log-probability", "rather than similar words (finercam)"),
    "layer": (*EARLIER, "times block 4"),
    "input": (*LARGER, "mean with the photo at 320 pixels", "mean with the mirrored photo"),
}
"""What remedies change that are neither methods nor done to maps afterwards."""

LEAST = 8
"""Times that a word must come up to be listed."""

CLOSE = 0.05
"""Advantage over the centre below which a word counts as failing: the aim is five points."""


def merged(explanations: dict[str, Explanation]) -> Explanation:
    """One explanation with the only map of each of several ones, called by their names."""
    first = next(iter(explanations.values()))
    return replace(
        first, maps={MapKey("", name): next(iter(found.maps.values())) for name, found in explanations.items()}
    )


def _with_empty_map(explanation: Explanation) -> Explanation:
    """With a map of nothing for the caption, which the method does not explain."""
    ((key, maps),) = explanation.maps.items()
    return replace(explanation, maps={key: torch.cat([maps, torch.zeros_like(maps[:1])])})


def scaled(maps: Tensor) -> Tensor:
    """The positive part of maps ``[K, h, w]``, each with a maximum of 1."""
    positive = maps.float().clamp(min=0)
    return positive / positive.amax((1, 2), keepdim=True).clamp(min=1e-12)


class Remedies(WordGrounding):
    """Word grounding of one row per head word and remedy, with what may explain a miss.

    Rows hold besides the protocol's numbers the ``word``, the ``share`` of the photo that its boxes take, its
    ``probability`` given the words before, and ``elsewhere``: whether the maximum lies on another named thing instead.
    """

    name: ClassVar[str] = "word-grounding-remedies"

    def __init__(self, *arguments: Any, remedies: bool = True, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.remedies = remedies
        self._likelihood = copy.copy(self.task)
        self._likelihood.score = self.task.log_probability  # type: ignore[method-assign]
        self._larger = {name: copy.copy(self.task) for name in LARGER}
        for name, side in LARGER.items():
            self._larger[name].preprocess = replace(self.task.preprocess, resize=(side, side))

    def settings(self) -> dict[str, Any]:
        """What was asked for."""
        return {**super().settings(), "remedies": self.remedies}

    def explained(self, photos: Sequence[Path], given: Sequence[Given]) -> list[Explanation]:
        """With a map for each remedy."""
        own = CaptionedPhotos(self.task, photos, self.methods).explain(given, seed=self.seed)
        if not self.remedies:
            return own
        others: dict[str, list[Explanation]] = {
            "log-probability": CaptionedPhotos(self._likelihood, photos, [BASE]).explain(given, seed=self.seed),
            **{
                name: CaptionedPhotos(self.task, photos, [BASE], layer).explain(given, seed=self.seed)
                for name, layer in EARLIER.items()
            },
        }
        for name, task in self._larger.items():
            others[name] = CaptionedPhotos(task, photos, [BASE]).explain(given, seed=self.seed)
        words = [replace(caption, targets=caption.targets[:-1]) for caption in given]
        others["rather than similar words (finercam)"] = [
            _with_empty_map(found)
            for found in CaptionedPhotos(self.task, photos, ["finercam"]).explain(words, seed=self.seed)
        ]
        mirrors = [ImageOps.mirror(load_image(path).image) for path in photos]
        mirrored = CaptionedPhotos(self.task, mirrors, [BASE]).explain(given, seed=self.seed)
        return [
            self._with_remedies(one, {name: found[number] for name, found in others.items()}, mirrored[number])
            for number, one in enumerate(own)
        ]

    @staticmethod
    def _with_remedies(own: Explanation, others: dict[str, Explanation], mirrored: Explanation) -> Explanation:
        maps = {MapKey("", key.method): values for key, values in own.maps.items()}
        base = maps[MapKey("", BASE)].float()
        maps |= {key: values for key, values in merged(others).maps.items()}
        maps[MapKey("", "mean with the mirrored photo")] = base + next(iter(mirrored.maps.values())).float().flip(-1)
        larger = maps[MapKey("", "photo at 320 pixels")].float()
        at_320 = functional.interpolate(larger[None], size=base.shape[-2:], mode="bilinear", align_corners=False)[0]
        maps[MapKey("", "mean with the photo at 320 pixels")] = scaled(base) + scaled(at_320)
        each = scaled(base)
        words = each[:-1]  # the last target is the whole caption
        rest = (words.sum(0) - each) / max(len(words) - 1, 1)
        maps[MapKey("", "less the mean of the caption's other words")] = each - rest
        maps[MapKey("", "less the whole caption's map")] = each - each[-1]
        attention = maps[MapKey("", "attention")].float()
        maps[MapKey("", "times attention")] = base.clamp(min=0) * attention
        gradcam = scaled(maps[MapKey("", "gradcam")])
        maps[MapKey("", "times Grad-CAM")] = each * gradcam
        fine = maps[MapKey("", "block 4 (14 × 14)")].float().clamp(min=0)
        coarse = functional.interpolate(each[None], size=fine.shape[-2:], mode="bilinear", align_corners=False)[0]
        maps[MapKey("", "times block 4")] = coarse * fine
        return replace(own, maps=maps)

    def rows(self, explanation: Explanation, words: Sequence[Named]) -> list[Row]:
        """A row per head word and map."""
        maps = Maps(explanation)
        targets, things = [word.target for word in words], [word.thing for word in words]
        rows: list[Row] = []
        for key in explanation.maps:
            rows += [
                self._told(explanation, words, number, key, row)
                for number, row in enumerate(maps.rows(key.method, targets, things))
            ]
        for number, thing in enumerate(things):
            rows += [
                self._told(explanation, words, number, None, row) for row in (centre_row(thing), random_row(thing))
            ]
        return rows

    @staticmethod
    def _told(explanation: Explanation, words: Sequence[Named], number: int, key: MapKey | None, row: Row) -> Row:
        word = words[number]
        assert explanation.probabilities is not None
        elsewhere = 0.0
        if key is not None and not row["pointing"]:
            peak = explanation.peak(word.target, key.layer, key.method)
            named = [other.thing.mask for other in words if other.identity != word.identity]
            elsewhere = max((hit(peak, mask.numpy()) for mask in named), default=0.0)
        return {
            **row,
            "phrase": word.kind,
            "word": explanation.targets[word.target].label,
            "share": float(word.thing.mask.double().mean()),
            "probability": float(explanation.probabilities[word.target]),
            "elsewhere": elsewhere,
        }


Rows = list[tuple[str, Row]]
"""Each with its photo."""


def measured(
    data: Path, work: Path, split: str, limit: int | None, remedies: bool, progress: Progress | None = None
) -> Rows:
    """The rows of the first caption of each photo of a split."""
    methods = METHODS if remedies else (BASE, "gradcam", "attention")
    task = load(MODEL, device="cpu")
    protocol = Remedies(task, data / "flickr8k", methods, split=split, captions=1, remedies=remedies)
    folder = work / f"{protocol.name}_{split}"
    return list(run_or_keep(protocol, folder, limit, progress).rows)


def by_method(rows: Rows) -> dict[str, Rows]:
    """Rows of each method, in the order in which they come up."""
    found: dict[str, Rows] = defaultdict(list)
    for key, row in rows:
        found[row["method"]].append((key, row))
    return dict(found)


def average(rows: Rows, name: str) -> Mean:
    """The mean of one number."""
    return mean([row[name] for _, row in rows], [key for key, _ in rows])


def gain(rows: Rows, against: Rows) -> Mean:
    """By how much rows point better than others of the same words."""
    own, others = ([row["pointing"] for _, row in part] for part in (rows, against))
    return difference(own, others, [key for key, _ in rows])


def remedies_table(rows: Rows) -> str:
    """What each remedy does, for all words and for those of the phrases that are hardest."""
    found = by_method(rows)
    hardest = ("bodyparts", "clothing", "other")
    lines = []
    for name, kept in found.items():
        if name in ("centre", "random"):
            continue
        shares = [
            f"{100 * average([row for row in kept if row[1]['phrase'] == kind], 'pointing').value:.1f}"
            for kind in hardest
        ]
        changed = "" if name == BASE else gain(kept, found[BASE]).told(100, 1, "+")
        iou = average(kept, "iou").value
        lines.append([kind_of(name), name, average(kept, "pointing").told(100, 1), changed, *shares, f"{iou:.3f}"])
    lines.append(["", "centre", average(found["centre"], "pointing").told(100, 1), "", *["" for _ in hardest], ""])
    for number, kind in enumerate(hardest):
        centre = average([row for row in found["centre"] if row[1]["phrase"] == kind], "pointing").value
        lines[-1][4 + number] = f"{100 * centre:.1f}"
    return table(["", "map", "pointing, %", f"beyond {BASE}", *hardest, "best IoU"], lines)


def kind_of(name: str) -> str:
    """What a remedy changes."""
    if name in METHODS:
        return "method"
    return next((kind for kind, names in KINDS.items() if name in names), "map")


def words_table(rows: Rows, count: int = 20) -> str:
    """The words with the smallest advantage over the centre, and what may explain it."""
    found = by_method(rows)
    grouped: dict[str, list[int]] = defaultdict(list)
    for number, (_, row) in enumerate(found[BASE]):
        grouped[row["word"]].append(number)
    listed = []
    for word, numbers in grouped.items():
        if len(numbers) >= LEAST:
            own, centre, gradcam = ([found[name][n][1] for n in numbers] for name in (BASE, "centre", "gradcam"))
            listed.append((_mean(own, "pointing") - _mean(centre, "pointing"), word, own, centre, gradcam))
    listed.sort(key=lambda entry: (entry[0], entry[1]))
    lines = [
        [
            word,
            str(len(own)),
            *[f"{100 * _mean(part, 'pointing'):.0f}" for part in (own, gradcam, centre)],
            f"{100 * difference:+.0f}",
            f"{100 * _mean(own, 'elsewhere'):.0f}",
            f"{100 * _median(own, 'share'):.1f}",
            f"{100 * _median(own, 'probability'):.1f}",
        ]
        for difference, word, own, centre, gradcam in listed[:count]
    ]
    heads = ["word", "n", BASE, "gradcam", "centre", "beyond it", "on another thing", "size", "probability"]
    failing = sum(difference < CLOSE for difference, *_ in listed)
    return "\n".join(
        [
            f"Of {len(listed)} words that come up {LEAST} times or more, {failing} are less than "
            f"{100 * CLOSE:.0f} points above the centre. The worst {count}, in per cent (size: median share of the "
            "photo that the boxes take; probability: median of the word's, given the words before):",
            "",
            table(heads, lines),
        ]
    )


def causes_table(rows: Rows) -> str:
    """Pointing by what may explain a miss: the thing's size, and whether the model expected the word."""
    found = by_method(rows)
    lines = []
    for title, name, edges in (
        ("size: share of the photo", "share", (0, 0.01, 0.03, 0.1, 0.3, 1.01)),
        ("probability of the word", "probability", (0, 0.001, 0.01, 0.1, 0.5, 1.01)),
    ):
        for low, high in pairwise(edges):
            kept = {
                method: [(key, row) for key, row in found[method] if low <= row[name] < high]
                for method in (BASE, "attention", "centre")
            }
            if kept[BASE]:
                span = f"{100 * low:g} to {min(100 * high, 100):g} %"
                numbers = [average(part, "pointing").told(100, 1) for part in kept.values()]
                missed = [(key, row) for key, row in kept[BASE] if not row["pointing"]]
                lines.append([title, span, str(len(kept[BASE])), *numbers, average(missed, "elsewhere").told(100, 1)])
                title = ""
    return table(["", "", "n", BASE, "attention", "centre", "misses that lie on another thing"], lines)


def _mean(rows: Sequence[Row], name: str) -> float:
    return float(statistics.mean(row[name] for row in rows))


def _median(rows: Sequence[Row], name: str) -> float:
    return float(statistics.median(row[name] for row in rows))


def section(data: Path, work: Path, limit: int | None = None, progress: Progress | None = None) -> str:
    """The study as a section of Markdown.

    Args:
        data: holds ``flickr8k``.
        work: keeps measured rows.
        limit: photos of each split at most.
        progress: told how many photos of how many are done, split by split.
    """
    developed = measured(data, work, "dev", min(filter(None, (limit, DEVELOPMENT))), True, progress)
    tested = measured(data, work, "test", limit, False, progress)
    photos = len({key for key, _ in developed})
    return "\n".join(
        [
            f"## Word grounding: the worst words, and remedies: `{MODEL}`",
            "",
            words_table(tested),
            "",
            f"What may explain a miss (test photos, {BASE}):",
            "",
            causes_table(tested),
            "",
            f"Remedies, on {photos} development photos: what is changed about {BASE}, and its pointing in all phrases "
            "and in the three hardest types. *target*: another score is explained; *layer*: the map is made elsewhere "
            "or sharpened by one from elsewhere; *map*: maps are combined afterwards, each scaled to a maximum of 1.",
            "",
            remedies_table(developed),
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("MMEXPLAIN_DATA"), help="default: $MMEXPLAIN_DATA")
    parser.add_argument("--work", type=Path, default=Path("protocols-work"), help="folder for measured rows")
    parser.add_argument("--limit", type=positive, help="photos of each split at most")
    parser.add_argument("--out", type=Path, help="file for the section; printed if left out")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the folder of data: --data, or the environment variable MMEXPLAIN_DATA")
    with rich.progress.Progress(transient=True) as bar:
        line = bar.add_task("photos")
        written = section(
            Path(arguments.data),
            arguments.work,
            arguments.limit,
            lambda done, total: bar.update(line, completed=done, total=total),
        )
    if arguments.out is None:
        print(written)
    else:
        with whole(arguments.out) as partial:
            partial.write_text(written, encoding="utf-8")


if __name__ == "__main__":
    main()
