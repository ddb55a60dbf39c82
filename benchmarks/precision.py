"""What the maps lose, and the time that is saved, where the part of a model that sees the photo runs in bfloat16.

    python benchmarks/precision.py --photos $MMEXPLAIN_DATA/flickr8k/images

Each photo's caption, as the model says it in float32, is explained word by word in both; of a classifier the three
classes that are likeliest in float32.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, Others, alternate, describe, machine, positive, save, table, with_spread
from scipy.stats import spearmanr

from mmexplain.memory import keep_freed
from mmexplain.tasks.registry import load

MODELS = {"show-attend-tell": "caption", "show-and-tell": "caption", "efficientnet-lite0": "classify"}
LOWER = "bfloat16"
SURE = 0.97
CLASSES = 3


def asked(task: Any, photo: Path) -> Any:
    """What is explained of a photo: its caption, or its likeliest classes."""
    found = task.explain(photo, **({} if task.name == "caption" else {"top": CLASSES}))
    return found.text if task.name == "caption" else found.targets


def agreement(task: Any, photos: Sequence[Path]) -> dict[str, Any]:
    """Rank correlation of the cells of each map with those of float32's, and what the highest cell is worth there."""
    correlations, peaks, flat = [], [], 0
    for photo in photos:
        wanted = asked(task, photo)
        exact, lower = (task.explain(photo, wanted, precision=precision) for precision in ("float32", LOWER))
        for number in range(len(exact.targets)):
            reference, other = (found.map(number).flatten().numpy() for found in (exact, lower))
            if np.ptp(reference) == 0 or np.ptp(other) == 0:
                flat += 1
                continue
            correlations.append(float(spearmanr(reference, other).statistic))
            peaks.append(float(reference[other.argmax()] / reference.max()))
    return {
        "maps": len(correlations),
        "flat": flat,
        "mean": float(np.mean(correlations)),
        "worst": min(correlations),
        "sure": float(np.mean([value >= SURE for value in correlations])),
        "peak": float(np.mean(peaks)),
        "lowest_peak": min(peaks),
    }


def speed(task: Any, photos: Sequence[Path], rounds: int) -> dict[str, Any]:
    """Milliseconds a batch, from files to maps."""

    def explain(precision: str) -> Any:
        return lambda: task.explain(list(photos), precision=precision)

    stick, timings = alternate(explain("float32"), {LOWER: explain(LOWER)}, rounds, progress=task.model_id)
    return {"float32": stick.record(), LOWER: timings[LOWER].record()}


def report(record: dict[str, Any]) -> str:
    """All of it as Markdown."""
    lost = [
        [
            name,
            str(one["maps"]),
            f"{one['mean']:.4f}",
            f"{one['worst']:.3f}",
            f"{one['sure']:.0%}",
            f"{one['peak']:.1%}",
            f"{one['lowest_peak']:.0%}",
        ]
        for name, one in ((name, found["agreement"]) for name, found in record["models"].items())
    ]
    won = [
        [
            name,
            size,
            with_spread(one["float32"]["ms"]),
            with_spread(one[LOWER]["ms"]),
            with_spread(one[LOWER]["ratio"], 2),
        ]
        for name, found in record["models"].items()
        for size, one in found["speed"].items()
    ]
    header = ["model", "maps", "mean", "worst", f"at least {SURE}", "worth of the peak", "the least of them"]
    flat = sum(found["agreement"]["flat"] for found in record["models"].values())
    return "\n\n".join(
        [
            "# The encoder in bfloat16",
            f"Rank correlation (Spearman) of the cells of Grad-CAM's maps with those of float32, {record['photos']} "
            "photos; the worth of the peak is what the cell where the map is highest holds in float32's map, as a "
            f"share of its highest. {flat} maps that are the same everywhere are left out.",
            table(header, lost),
            "Time from files to maps, milliseconds a batch (quartiles):",
            table(["model", "photos in a batch", "float32", LOWER, "ratio"], won),
            f"Machine: {describe(record['machine'])}. `{record['command']}`",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder of photos, the last of which are taken")
    parser.add_argument("--count", type=positive, default=100, help="photos whose maps are compared")
    parser.add_argument("--sizes", nargs="*", type=positive, default=(1, 16), help="photos in a batch that is timed")
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--models", nargs="*", choices=tuple(MODELS), default=tuple(MODELS))
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    arguments = parser.parse_args()
    keep_freed()
    photos = sorted(path for path in arguments.photos.iterdir() if path.is_file())[-arguments.count :]
    models = {}
    with Others() as others:
        for name in arguments.models:
            task = load(name, task=MODELS[name], device="cpu")
            timed = {str(size): speed(task, photos[:size], arguments.rounds) for size in arguments.sizes}
            models[name] = {"agreement": agreement(task, photos), "speed": timed}
    sizes = " ".join(map(str, arguments.sizes))
    command = (
        f"python benchmarks/precision.py --photos {arguments.photos.name} --count {arguments.count} --sizes {sizes} "
        f"--rounds {arguments.rounds} --models {' '.join(arguments.models)}"
    )
    record = {
        "machine": {**machine(), "others": others.share},
        "command": command,
        "photos": len(photos),
        "models": models,
    }
    markdown = report(record)
    print(markdown)
    save("precision", record, markdown, arguments.out)


if __name__ == "__main__":
    main()
