"""``study failures``: the most confidently wrong photos, and what the model looked at in them."""

from __future__ import annotations

from typing import Any

import click

from mmexplain.commands.folder import existing, writable
from mmexplain.commands.options import device_option, examples, json_option, layer_option, precision_option, seed_option
from mmexplain.commands.progress import counting, working
from mmexplain.commands.stopping import Stopped
from mmexplain.commands.studies.showing import show


@click.command(
    short_help="The most confidently wrong photos, and where the model looked.",
    epilog=examples(
        "mmexplain study failures --data photos/ --model efficientnet-lite0 --out failures/",
        "mmexplain study failures --data ILSVRC/val/ --model torchvision:resnet50 --limit 1000 --worst 20 --out f/",
        "mmexplain study failures --data coco/ --model efficientnet-lite0 --closed --method layercam --json",
    ),
)
@click.option(
    "--data",
    metavar="PATH",
    required=True,
    help="Photos in folders called as their classes; VOC; COCO's instances_*.json; annotations.jsonl; ImageNet's XML.",
)
@click.option("--model", metavar="ID|PATH", required=True, help="A classifier, see 'mmexplain models'.")
@click.option("--method", metavar="NAME", default="gradcam", show_default=True, help="See 'mmexplain methods'.")
@layer_option
@click.option(
    "--closed",
    is_flag=True,
    help="Predict only labels that mean a class of the data: for data that does not mark all that a photo holds.",
)
@click.option(
    "--worst",
    metavar="K",
    type=click.IntRange(1, 100),
    default=8,
    show_default=True,
    help="How many of the most confidently wrong photos are listed and drawn.",
)
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(min=1),
    help="The first N photos only, in the data's order, of those that hold a class of the model.",
)
@seed_option("Of whatever is drawn at random.")
@device_option
@precision_option
@click.option(
    "--out",
    metavar="DIR",
    help="Folder for study.json, study.md, study.png (photo, map of the predicted and of the true class) and "
    "failures.html.",
)
@json_option
def failures(
    data: str,
    model: str,
    method: str,
    layer: str | None,
    closed: bool,
    worst: int,
    limit: int | None,
    seed: int,
    device: str,
    precision: str,
    out: str | None,
    as_json: bool,
) -> None:
    """Find the photos of a labelled set that a classifier gets wrong with the greatest confidence, and hold the map of
    what it said against the map of what is there.

    Where objects are marked it is counted how often either map points at the object. Control: the map of a class drawn
    at random must do so less often.
    """
    existing(data)
    folder = writable(out, "a study")
    with working("loading the model"):
        from mmexplain.memory import keep_freed
        from mmexplain.studies.failures.study import failures as study
        from mmexplain.tasks.registry import load, task_of_several

        keep_freed()
        task: Any = load(model, task_of_several(model, "classify"), device)
        task.precision = precision
    try:
        with counting("photos") as progress:
            found = study(
                task,
                data,
                method=method,
                layer=layer,
                closed=closed,
                worst=worst,
                limit=limit,
                seed=seed,
                progress=progress,
            )
    except KeyboardInterrupt:
        raise Stopped("nothing was written") from None
    show(found.study, [] if folder is None else found.save(folder), as_json)
