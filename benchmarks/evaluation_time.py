"""How long it takes to evaluate captions, beside captioning the same photos.

python benchmarks/evaluation_time.py --data $MMEXPLAIN_DATA

Photos are gone through in parts, captioned and evaluated in turn, so that other work on the machine weighs on both.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

from common import describe, machine, positive
from protocol_runs import CAPTIONER

from mmexplain.evaluate.captions import CaptionedPhotos
from mmexplain.evaluate.grounding import WordGrounding
from mmexplain.evaluate.intervals import mean
from mmexplain.tasks.registry import load

METHODS = ("gradcam", "gradcam++", "layercam", "hirescam")
PART = 40
BEAM = 3
"""The default of ``mmexplain caption``."""


def measure(data: Path, limit: int | None = None) -> dict[str, Any]:
    """Seconds for captioning and for evaluating each part of the test photos.

    Args:
        data: holds ``flickr8k``.
        limit: photos at most.
    """
    task: Any = load(CAPTIONER, device="cpu")
    protocol = WordGrounding(task, data / "flickr8k", METHODS, captions=1)
    items = protocol.items()[:limit]
    protocol.measure(items[: protocol.batch])  # everything is loaded and warm
    captioning, evaluating = [], []
    for start in range(0, len(items), PART):
        part = items[start : start + PART]
        chunks = [part[n : n + protocol.batch] for n in range(0, len(part), protocol.batch)]
        begun = time.perf_counter()
        for chunk in chunks:
            photos = [protocol.data / "images" / item.content.file for item in chunk]
            CaptionedPhotos(task, photos, ["gradcam"]).captions(BEAM)
        captioned = time.perf_counter()
        for chunk in chunks:
            protocol.measure(chunk)
        captioning.append(captioned - begun)
        evaluating.append(time.perf_counter() - captioned)
    return {
        "machine": machine(),
        "photos": len(items),
        "captioning_seconds": captioning,
        "evaluating_seconds": evaluating,
    }


def section(data: Path, work: Path, limit: int | None = None) -> str:
    """What was measured, as a section of Markdown; a measurement in ``work`` is not repeated."""
    path = work / f"evaluation_time_{limit or 'all'}.json"
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
    else:
        found = measure(data, limit)
        work.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found), encoding="utf-8")
    captioning, evaluating = found["captioning_seconds"], found["evaluating_seconds"]
    ratios = [one / other for one, other in zip(evaluating, captioning, strict=True)]
    middle = mean(ratios, [str(number) for number in range(len(ratios))])
    spread = middle.told(digits=2)
    return "\n".join(
        [
            f"## Time to evaluate captions: `{CAPTIONER}`",
            "",
            f"Captioning {found['photos']:,} photos with a beam of {BEAM} took {sum(captioning):.0f} s (decoding and "
            f"encoding included). Explaining a person's caption of each with {len(METHODS)} methods, the model's "
            "attention and the whole-caption control, and measuring the maps, took "
            f"{sum(evaluating):.0f} s: {sum(evaluating) / sum(captioning):.2f} × as long (median of "
            f"{len(ratios)} parts {statistics.median(ratios):.2f}, mean {spread}).",
            "",
            f"Machine: {describe(found['machine'])}.",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("MMEXPLAIN_DATA"), help="default: $MMEXPLAIN_DATA")
    parser.add_argument("--work", type=Path, default=Path("protocols-work"), help="keeps the measurement")
    parser.add_argument("--limit", type=positive, help="photos at most")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the folder of data: --data, or the environment variable MMEXPLAIN_DATA")
    print(section(Path(arguments.data), arguments.work, arguments.limit))


if __name__ == "__main__":
    main()
