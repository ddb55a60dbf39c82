"""``study robustness``: maps of what is in photos, before and after an adversarial attack."""

from __future__ import annotations

from typing import Any

import click

from mmexplain.commands.folder import existing, writable
from mmexplain.commands.options import device_option, examples, json_option, layer_option, method_option, seed_option
from mmexplain.commands.progress import counting, working
from mmexplain.commands.studies.showing import show
from mmexplain.errors import InputError


@click.command(
    short_help="Maps before and after an adversarial attack.",
    epilog=examples(
        "mmexplain study robustness --data coco/ --model efficientnet-lite0 --out robustness/",
        'mmexplain study robustness --data photos/ --model torchvision:resnet50 --target "space shuttle" --epsilon 2',
        "mmexplain study robustness --data coco/ --model efficientnet-lite0 --limit 20 --json",
    ),
)
@click.option(
    "--data",
    metavar="PATH",
    required=True,
    help="Photos with marked objects (COCO, VOC, ImageNet with XML, see 'mmexplain evaluate --help'), or any folder of "
    "photos, whose likeliest classes are then taken for the true ones.",
)
@click.option("--model", metavar="ID|PATH", required=True, help="A classifier, see 'mmexplain models'.")
@click.option(
    "--target",
    metavar="CLASS",
    default="airliner",
    show_default=True,
    help="What the model is made to see. Photos that hold it are left out.",
)
@click.option(
    "--epsilon",
    metavar="E",
    default="8",
    show_default=True,
    help="By how much a pixel may change: in levels of 255 (8), or as a share of white (8/255).",
)
@click.option(
    "--confidence",
    metavar="P",
    type=float,
    default=0.9999,
    show_default=True,
    help="The attack on a photo ends when the target's probability is above this.",
)
@click.option(
    "--steps",
    metavar="N",
    type=click.IntRange(min=1),
    default=40,
    show_default=True,
    help="At most, of 2.5 E / N each.",
)
@click.option("--limit", metavar="N", type=click.IntRange(min=2), help="The first N photos only.")
@method_option
@layer_option
@seed_option("Of starts, noise, and which photo stands for another.")
@device_option
@click.option("--out", metavar="DIR", help="Folder for study.json, study.md and study.png.")
@json_option
def robustness(
    data: str,
    model: str,
    target: str,
    epsilon: str,
    confidence: float,
    steps: int,
    limit: int | None,
    methods: tuple[str, ...],
    layer: str | None,
    seed: int,
    device: str,
    out: str | None,
    as_json: bool,
) -> None:
    """Attack photos until the model is sure of a class that is not there, and see whether maps of the classes that are
    still mark them (Selvaraju et al. 2017, "Effect of adversarial noise"; the attack is Madry et al.'s, 2018).

    Prints how sure the model is, how alike the maps are, and where objects are marked, whether maps still lie on them;
    with --out all this is written too, with a figure.
    """
    existing(data)
    size = _share(epsilon)
    folder = writable(out, "a study")
    with working("loading the model"):
        from mmexplain.studies.robustness.attack import TargetedPGD
        from mmexplain.studies.robustness.study import robustness as studied
        from mmexplain.tasks.registry import load

        attack = TargetedPGD(size, confidence, steps)
        task: Any = load(model, "classify", device)
    with counting("attacking photos") as progress:
        study, figure = studied(
            task,
            data,
            target=target,
            attack=attack,
            limit=limit,
            methods=methods,
            layer=layer,
            seed=seed,
            progress=progress,
        )
    show(study, [] if folder is None else study.save(folder, figure), as_json)


def _share(text: str) -> float:
    """``"8"`` and ``"8/255"`` as a share of white."""
    number, slash, whole = text.partition("/")
    try:
        found = float(number) / (float(whole) if slash else 255)
    except (ValueError, ZeroDivisionError):
        found = 0.0
    if not 0 < found <= 1:
        raise InputError(f"--epsilon {text!r}: give levels, more than 0 and up to 255, such as 8, or a share, as 8/255")
    return found
