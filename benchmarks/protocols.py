"""All protocols on the bundled models, written up as benchmarks/RESULTS.md.

python benchmarks/protocols.py --data $MMEXPLAIN_DATA

Measured rows are kept in --work: a run that was interrupted goes on there, and what is done is not run again.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common import describe, machine
from rich.console import Console
from rich.progress import Progress

from mmexplain.evaluate.registry import get
from mmexplain.evaluate.result import Result
from mmexplain.evaluate.runner import run
from mmexplain.render.whole import whole
from mmexplain.tasks.registry import load

RESNET50 = "ResNet-50 (Keras)"
LAYER_METHODS = ("gradcam", "gradcam++", "gradcam++-normalized", "hirescam", "layercam", "xgradcam", "eigencam")
ABLATIONS = ("gradcam-no-relu", "gradcam-absolute", "gradcam-max", "gradcam-guided-relu", "gradcam-deconv-relu")
WORDS = ("gradcam", "gradcam++", "layercam", "hirescam", "attention")


@dataclass(frozen=True)
class Run:
    """One table.

    Attributes:
        protocol: by name.
        model: as for ``mmexplain.load``, or :data:`RESNET50`.
        data: below ``--data``.
        methods: that are measured.
        limit: items at most.
        options: of the protocol.
    """

    protocol: str
    model: str
    data: str
    methods: Sequence[str]
    limit: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of its folder."""
        model = "".join(letter if letter.isalnum() or letter == "-" else "-" for letter in self.model).strip("-")
        return f"{self.protocol}_{model}"


RUNS = (
    Run("grounding", "show-attend-tell", "flickr8k", WORDS, options={"captions": 1}),
    Run("grounding", "show-and-tell", "flickr8k", WORDS[:-1], options={"captions": 1}),
    Run("generated-grounding", "show-attend-tell", "coco_mini", WORDS),
    Run("pointing", "efficientnet-lite0", "coco_mini", LAYER_METHODS),
    Run("pointing", RESNET50, "coco_mini", (*LAYER_METHODS, *ABLATIONS)),
    Run("localisation", "efficientnet-lite0", "coco_mini", LAYER_METHODS),
    Run("localisation", RESNET50, "coco_mini", (*LAYER_METHODS, *ABLATIONS)),
    Run("faithfulness", "efficientnet-lite0", "coco_mini", ("gradcam", "gradcam++", "hirescam", "layercam"), limit=30),
    Run("human-attention", "efficientnet-lite0", "human_attention", ("gradcam", "gradcam++", "guided-gradcam")),
    Run("human-attention", "show-attend-tell", "human_attention", ("gradcam", "gradcam++", "attention")),
    Run("randomisation", "efficientnet-lite0", "coco_mini", ("gradcam", "gradcam++", "guided-backprop"), limit=10),
)

PUBLISHED = {
    "grounding": "beyond the two papers. A centre guess on Flickr30k Entities is reported at about 49 %, "
    "caption-guided saliency (CVPR 2017) at about 50 %: other photos, another model; only the distance to the centre "
    "compares.",
    "generated-grounding": "Grad-CAM (IJCV text): Show and Tell, 830 words, 80 COCO classes, 1,000 images: 30.0 %. "
    "Here 159 photos and another model: not comparable in level.",
    "pointing": "Grad-CAM on COCO, all/difficult: VGG-16 54.2/49.0, ResNet-50 57.3/52.3, models trained on COCO's "
    "classes. Here ImageNet classifiers whose classes are matched through WordNet, and 159 photos.",
    "localisation": "ILSVRC-15 val, error top-1/top-5: VGG-16 56.51/46.41, AlexNet 68.3/56.6, GoogLeNet 60.09/49.34. "
    "Here COCO photos with many objects: errors are larger, only the order of methods compares.",
    "faithfulness": "Grad-CAM++ / Grad-CAM, ResNet-50, ImageNet: average drop 28.90/30.36 %, increase 22.16/22.11 %, "
    "win 60.51/39.49 %. Here other photos and another model.",
    "human-attention": "VQA-HAT (questions) .136 for Grad-CAM and .623 between people. Here photos were viewed "
    "freely: not comparable.",
    "randomisation": "Adebayo et al. 2018: Grad-CAM changes with the weights, guided backpropagation hardly does.",
}
"""What the papers report, and what of it compares."""


def model_of(name: str, weights: Path | None) -> Any:
    """The task of a run's model; None if its weights are not at hand."""
    if name != RESNET50:
        return load(name, device="cpu")
    if weights is None:
        return None
    sys.path.insert(0, str(Path(__file__).parent.parent / "demos"))
    from models.resnet50 import load as load_resnet50

    return load_resnet50(weights)


def section(result: Result, model: str) -> str:
    """A table with its notes, below a heading of its own."""
    _, *rest = result.markdown().splitlines()
    lines = [f"## {result.title}: `{model}`", *rest]
    if result.protocol in PUBLISHED:
        lines += [f"*Published:* {PUBLISHED[result.protocol]}", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("MMEXPLAIN_DATA"), help="default: $MMEXPLAIN_DATA")
    parser.add_argument("--weights", type=Path, default=os.environ.get("MMEXPLAIN_WEIGHTS"), help="holds resnet50/")
    parser.add_argument("--work", type=Path, default=Path("protocols-work"), help="folder for measured rows")
    parser.add_argument("--only", nargs="*", help="protocols to run; the others are taken from --work as they are")
    parser.add_argument("--limit", type=int, help="items of each at most")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "RESULTS.md")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the folder of data: --data, or the environment variable MMEXPLAIN_DATA")
    console = Console(stderr=True)
    sections = []
    for planned in RUNS:
        folder = arguments.work / planned.name
        if arguments.only is not None and planned.protocol not in arguments.only and not folder.exists():
            continue
        task = model_of(planned.model, arguments.weights)
        if task is None:
            console.print(f"left out: {planned.name}, without --weights")
            continue
        protocol: Any = get(planned.protocol)
        made = protocol(task, arguments.data / planned.data, planned.methods, **planned.options)
        limit = min(filter(None, (planned.limit, arguments.limit)), default=None)
        with Progress(console=console, transient=True) as bar:
            line = bar.add_task(planned.name)
            result = run(
                made,
                folder,
                limit,
                lambda done, total, bar=bar, line=line: bar.update(line, completed=done, total=total),
            )
        sections.append(section(result, planned.model))
        console.print(f"{planned.name}: {result.items} items, {result.seconds:.0f} s")
    head = [
        "# Methods by protocol",
        "",
        "Written by `python benchmarks/protocols.py`, on the models that come with mmexplain and on small sets of "
        "photos: read differences of methods within a table, with their intervals, and not levels across papers.",
        "",
        f"Machine: {describe(machine())}.",
        "",
    ]
    with whole(arguments.out) as partial:
        partial.write_text("\n".join([*head, *sections]), encoding="utf-8")
    console.print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
