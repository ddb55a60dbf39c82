"""Ways to push K gradients through a model, side by side, and whether ``auto`` chooses well.

    python benchmarks/strategies.py                # all cases; writes benchmarks/results/strategies.{md,json}
    python benchmarks/strategies.py --only resnet50 --rounds 3

Random weights; every strategy's maps are checked against ``loop``, the reference, before anything is timed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from captioners import TAP, Adapter, Captioner
from common import RESULTS, Others, alternate, describe, machine, save, table
from torch import Tensor

import mmexplain
from mmexplain.explanation import MapKey
from mmexplain.geometry import Geometry
from mmexplain.picture import Picture
from mmexplain.preprocess import Preprocess
from mmexplain.targets import Target
from mmexplain.tasks.base import Batch, Task
from mmexplain.tasks.captioning.task import Captioning
from mmexplain.tasks.classification.task import Classifier

STRATEGIES = ("auto", "expand", "vjp", "loop")
TOLERANCE = 1e-4
CLOSE = 1.15
"""``auto`` chose well if it takes at most this many times the time of the best."""

EARLIER = {"resnet50": "layer3", "vgg16": "features.22", "resnet18": "layer3"}
"""The layer one stage before the last: 14 x 14 (ResNet), 28 x 28 (VGG, conv4_3 after its ReLU)."""


@dataclass
class Case:
    """What is explained: B photos, K targets each, one layer."""

    name: str
    task: Task
    batch: Batch
    rows: list[list[Target]]
    layer: str

    def maps(self, strategy: Any) -> Callable[[], Tensor]:
        """Photos → maps ``[B, K, h, w]``."""

        def run() -> Tensor:
            found = mmexplain.explain(
                self.task, self.batch, self.rows, layers=[self.layer], methods=["gradcam"], strategy=strategy
            )
            return torch.stack([explanation.maps[MapKey(self.layer, "gradcam")] for explanation in found])

        return run

    def forward(self) -> Tensor:
        """The yardstick: one pass through the encoder without a graph."""
        with torch.no_grad():
            return self.task.encode(self.batch.inputs)


def cases(arguments: argparse.Namespace) -> Iterator[Case]:
    """Classifiers at a late and an early layer; captioners at the encoder's last stage and the one before."""
    size = arguments.size
    preprocess = Preprocess(resize=(size, size))
    torch.manual_seed(0)
    for architecture in ("resnet18", "resnet50"):
        if arguments.only in (None, architecture):
            model = getattr(torchvision.models, architecture)(weights=None).eval()
            classifier = Classifier(model, preprocess)
            for layer in ("layer4", "layer2"):
                for count in arguments.classes:
                    rows = [[Target(f"class {i}", "class", (i,)) for i in range(count)]]
                    name = f"{architecture}, {count} classes, `{layer}`"
                    yield Case(name, classifier, _batch(1, size, arguments.device), rows, layer)
    for architecture in arguments.captioners:
        if arguments.only in (None, architecture):
            captioner = Adapter(Captioner(architecture, arguments.vocabulary).eval())
            task = Captioning(captioner, preprocess)
            for layer in (TAP[architecture], EARLIER[architecture]):
                for count in arguments.batches:
                    tokens = torch.randint(1, arguments.vocabulary, (count, arguments.words))
                    rows = [
                        [Target(f"word {i}", "word", (token,), i) for i, token in enumerate(row)]
                        for row in tokens.tolist()
                    ]
                    batch = _batch(count, size, arguments.device, tokens=tokens)
                    name = f"{architecture} + LSTM, {count} x {arguments.words} words, `{layer}`"
                    yield Case(name, task, batch, rows, f"captioner.encoder.{layer}")


def _batch(count: int, size: int, device: str, **context: Tensor) -> Batch:
    picture = Picture(torch.zeros(size, size, 3, dtype=torch.uint8))
    photos = torch.randn(count, 3, size, size)
    return Batch({"image": photos}, context, [Geometry.identity(size, size)] * count, [picture] * count).to(device)


def measure(case: Case, arguments: argparse.Namespace) -> dict[str, Any]:
    """Check and time every strategy on one case."""
    case.task.model.to(arguments.device)
    contenders = {strategy: case.maps(strategy) for strategy in STRATEGIES}
    reference = contenders["loop"]().double()
    scale = reference.amax().clamp(min=1e-30)
    for strategy, run in contenders.items():
        off = float((run().double() - reference).abs().max() / scale)
        if off > TOLERANCE:
            raise SystemExit(f"{case.name}: {strategy} differs from loop by {off:.1e}")
    stick, timings = alternate(case.forward, contenders, arguments.rounds, device=arguments.device, progress=case.name)
    record: dict[str, Any] = {name: timing.record() for name, timing in timings.items()}
    ratios = {name: record[name]["ratio"]["median"] for name in STRATEGIES}
    best = min(("expand", "vjp", "loop"), key=lambda name: ratios[name])
    return {"forward": stick.record(), **record, "best": best, "auto_to_best": ratios["auto"] / ratios[best]}


def report(record: dict[str, Any]) -> str:
    """All of it as Markdown."""
    rows = []
    for name, found in record["cases"].items():
        row = [name, f"{found['forward']['ms']['median']:.0f}"]
        for strategy in STRATEGIES:
            ratio = f"{found[strategy]['ratio']['median']:.2f}"
            row.append(f"**{ratio}**" if strategy == found["best"] else ratio)
        rows.append([*row, f"{found['auto_to_best']:.2f}"])
    header = ["case", "forward, ms", *STRATEGIES, "auto / best"]
    slow = [name for name, found in record["cases"].items() if found["auto_to_best"] > CLOSE]
    verdict = f"`auto` is within {CLOSE:g} x of the best strategy in all cases."
    if slow:
        verdict = f"`auto` takes more than {CLOSE:g} x the time of the best strategy in: {'; '.join(slow)}."
    return "\n\n".join(
        [
            "## Strategies",
            describe(record["machine"]),
            "Photos of {size} x {size} pixels, {rounds} rounds; ".format(**record["settings"])
            + "multiples of one pass of the same photos through the encoder without a graph (medians). Bold: the "
            "best of the three.",
            table(header, rows),
            verdict,
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, help="threads that torch may use; its own choice if left out")
    parser.add_argument("--only", choices=("resnet18", "resnet50", "vgg16"), help="one architecture")
    parser.add_argument("--classes", type=int, nargs="+", default=[5, 100])
    parser.add_argument("--captioners", nargs="*", choices=tuple(TAP), default=["resnet50", "vgg16"])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--words", type=int, default=12)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--vocabulary", type=int, default=10_000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    with Others() as others:
        found = {case.name: measure(case, arguments) for case in cases(arguments)}
    record = {
        "machine": {**machine(arguments.device), "others": others.share},
        "settings": {name: getattr(arguments, name) for name in ("rounds", "size", "vocabulary", "words", "device")},
        "cases": found,
    }
    markdown = report(record)
    print(markdown)
    save("strategies", record, markdown, arguments.out)


if __name__ == "__main__":
    main()
