"""Do maps tell of the labels? A small CNN that learned them against one that learned permuted labels by heart.

The data randomisation test of Adebayo et al. (NeurIPS 2018, section 4): the same network is trained from scratch twice
on objects cut out of photos, with their true groups and with groups permuted over the objects. The maps of the two are
compared on held-out objects; what two networks with true labels and other seeds have in common is the yardstick.

    python benchmarks/data_randomisation.py --data $MMEXPLAIN_DATA/coco_mini --out data_randomisation.md

Weights and measured rows are kept in --work: a run that was interrupted goes on there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from common import table
from object_crops import GROUPS, Crop, load_crops
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from saved import run_or_keep
from small_cnn import SmallCNN, accuracy, train
from torch import Tensor

from mmexplain.evaluate.compared import MEASURED, METRICS, similarity_rows
from mmexplain.evaluate.protocol import Item, Metric, Protocol, Row
from mmexplain.evaluate.result import Result
from mmexplain.preprocess import Preprocess
from mmexplain.render.whole import whole
from mmexplain.tasks.classification import Classifier

LAYER = "relu4"
METHODS = (
    *("gradcam", "gradcam++", "guided-backprop", "guided-gradcam"),
    *("integrated-gradients", "input-x-gradient", "saliency"),
)
PUBLISHED = (
    "Adebayo et al. 2018 (figure 6, MNIST and Fashion-MNIST, no numbers): gradients and Grad-CAM change substantially; "
    "guided backpropagation, integrated gradients and gradient × input still show the input's structure."
)


@dataclass(frozen=True)
class Plan:
    """How large the experiment is.

    Attributes:
        groups: names in :data:`~object_crops.GROUPS`.
        side: of the crops, pixels.
        views: of each object to train on.
        objects: of a group at most, to train on.
        held_out: of a group at most, to explain.
        epochs: of a round of training; see :func:`~small_cnn.train`.
        seeds: how many times all is done.
    """

    groups: tuple[str, ...] = tuple(GROUPS)
    side: int = 64
    views: int = 4
    objects: int = 50
    held_out: int = 12
    epochs: int = 15
    seeds: int = 3


# -- training ---------------------------------------------------------------------------------------------------------


def as_input(crops: Sequence[Crop]) -> Tensor:
    """All views of the crops as the network takes them, ``[N, 3, S, S]`` in -1 .. 1."""
    return torch.from_numpy(np.concatenate([crop.views for crop in crops])).permute(0, 3, 1, 2) / 127.5 - 1


def labels_of(crops: Sequence[Crop], groups: Sequence[str]) -> Tensor:
    """The number of each crop's group, ``[objects]``."""
    return torch.tensor([groups.index(crop.group) for crop in crops])


def permuted(labels: Tensor, seed: int) -> Tensor:
    """The same labels, dealt out anew over the objects."""
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]


def trained(
    plan: Plan, crops: tuple[Sequence[Crop], Sequence[Crop]], work: Path
) -> tuple[dict[str, SmallCNN], dict[str, dict[str, float]]]:
    """The networks by name ("true labels 0", "permuted labels 0" …), and their accuracies on the labels that they
    were given and on held-out objects; those that ``work`` holds are not trained again."""
    taught, held_out = crops
    inputs, tests = as_input(taught), as_input(held_out)
    labels, expected = (labels_of(part, plan.groups) for part in crops)
    models, accuracies = {}, {}
    for seed in range(plan.seeds):
        for kind, objects in (("true labels", labels), ("permuted labels", permuted(labels, seed))):
            name, wanted = f"{kind} {seed}", objects.repeat_interleave(plan.views)
            path = work / f"{name.replace(' ', '_')}.safetensors"
            model = _load(path, plan)
            if model is None:
                print(f"training: {name}", file=sys.stderr, flush=True)
                model = train(inputs, wanted, len(plan.groups), plan.epochs, seed)
                save_file(model.state_dict(), path, {"plan": json.dumps(_training(plan))})
            models[name] = model
            accuracies[name] = {
                "training": accuracy(model, inputs, wanted),
                "held-out": accuracy(model, tests, expected),
            }
    return models, accuracies


def _training(plan: Plan) -> dict[str, Any]:
    """What weights depend on besides the data."""
    return {name: value for name, value in asdict(plan).items() if name not in ("held_out", "seeds")}


def _load(path: Path, plan: Plan) -> SmallCNN | None:
    if not path.exists():
        return None
    with safe_open(path, framework="pt") as file:
        if json.loads(file.metadata()["plan"]) != json.loads(json.dumps(_training(plan))):
            return None
        model = SmallCNN(len(plan.groups))
        model.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    return model.eval()


# -- measuring --------------------------------------------------------------------------------------------------------


class PermutedLabels(Protocol):
    """Similarity of the maps of networks with true labels to those of others, over held-out objects.

    An item is a photo: objects of one photo are not independent. Explained is each object's own group.
    """

    name: ClassVar[str] = "data-randomisation"
    title: ClassVar[str] = "Randomisation of the training labels (Adebayo et al. 2018)"
    labels: ClassVar[tuple[str, ...]] = ("method", "compared with")
    metrics: ClassVar[tuple[Metric, ...]] = METRICS

    def __init__(self, plan: Plan, models: Mapping[str, SmallCNN], held_out: Sequence[Crop]) -> None:
        self.plan, self.held_out = plan, held_out
        plain = Preprocess(resize=(plan.side, plan.side), mean=(0.5,) * 3, std=(0.5,) * 3)
        self.tasks = {name: Classifier(model, plain, plan.groups, layer=LAYER) for name, model in models.items()}

    def settings(self) -> Mapping[str, Any]:
        """The plan and the methods."""
        return {**json.loads(json.dumps(asdict(self.plan))), "methods": list(METHODS)}

    def items(self) -> Sequence[Item]:
        """The photos with their held-out objects."""
        return [Item(photo, list(crops)) for photo, crops in groupby(self.held_out, lambda crop: crop.photo)]

    def measure(self, items: Sequence[Item]) -> Sequence[Sequence[Row]]:
        """For each photo a row for each object, method, seed and network that is compared with."""
        return [[row for crop in item.content for row in self._rows(crop)] for item in items]

    def _rows(self, crop: Crop) -> list[Row]:
        found = {
            name: task.explain(Image.fromarray(crop.views[0]), [crop.group], methods=METHODS)
            for name, task in self.tasks.items()
        }
        rows = []
        for seed in range(self.plan.seeds):
            others = {"permuted labels": f"permuted labels {seed}"}
            if self.plan.seeds > 1:
                others["true labels, another seed"] = f"true labels {(seed + 1) % self.plan.seeds}"
            for named, other in others.items():
                rows += similarity_rows(found[f"true labels {seed}"], found[other], **{"compared with": named})
        return rows

    def notes(self) -> Sequence[str]:
        """What is compared with what."""
        return (
            f"A CNN of four convolutions, trained from scratch {self.plan.seeds} times on objects of COCO photos, "
            "with their true labels and with labels permuted over the objects; explained is each held-out object's "
            "own group. The interval is over photos, not over seeds.",
            *MEASURED,
        )


def measured(data: Path, work: Path, plan: Plan) -> tuple[Result, dict[str, dict[str, float]]]:
    """The table, and the networks' accuracies.

    Args:
        data: the folder coco_mini.
        work: keeps weights and rows; made if it is not there.
        plan: how large it is.
    """
    work.mkdir(parents=True, exist_ok=True)
    crops = load_crops(data, plan.groups, plan.side, plan.views, (plan.objects, plan.held_out))
    models, accuracies = trained(plan, crops, work)
    return run_or_keep(PermutedLabels(plan, models, crops[1]), work), accuracies


def written(result: Result, accuracies: Mapping[str, Mapping[str, float]]) -> str:
    """The section as Markdown, below a heading of its own."""
    _, *rest = result.markdown().splitlines()
    rows = [[name, *(f"{100 * value:.1f}" for value in found.values())] for name, found in accuracies.items()]
    return "\n".join(
        [
            f"## {result.title}: a small CNN",
            *rest,
            f"Accuracies, mean over {len(result.settings['groups'])} groups:",
            "",
            table(("network", "labels it was given %", "held-out objects %"), rows),
            "",
            f"*Published:* {PUBLISHED}",
            "",
        ]
    )


def section(data: Path, work: Path, plan: Plan | None = None) -> str:
    """The section of ``benchmarks/RESULTS.md``; see :func:`measured`."""
    return written(*measured(data, work, plan or Plan()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder coco_mini")
    parser.add_argument("--work", type=Path, default=Path("data-randomisation-work"), help="for weights and rows")
    parser.add_argument("--out", type=Path, required=True, help="Markdown; a JSON file of the same name goes with it")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS), metavar="NAME")
    for name in ("side", "views", "objects", "held_out", "epochs", "seeds"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(Plan, name))
    parser.add_argument("--threads", type=int, help="threads that torch may use; its own choice if left out")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    chosen = {name: value for name, value in vars(arguments).items() if name in Plan.__dataclass_fields__}
    result, accuracies = measured(arguments.data, arguments.work, Plan(**{**chosen, "groups": tuple(arguments.groups)}))
    text = written(result, accuracies)
    print(text)
    with whole(arguments.out) as partial:
        partial.write_text(text, encoding="utf-8")
    record = {**result.to_json(), "accuracies": accuracies}
    arguments.out.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
