"""``study seeds``: maps as seeds for weakly supervised segmentation."""

from __future__ import annotations

from typing import Any

import click

from mmexplain.commands.folder import existing, writable
from mmexplain.commands.options import device_option, examples, json_option, layer_option, seed_option
from mmexplain.commands.progress import counting, working
from mmexplain.commands.stopping import Stopped
from mmexplain.commands.studies.showing import show
from mmexplain.errors import InputError


@click.command(
    short_help="Seeds for weakly supervised segmentation.",
    epilog=examples(
        "mmexplain study seeds --data VOC2012/ImageSets/Segmentation/train.txt --model torchvision:vgg16 --out seeds/",
        "mmexplain study seeds --data coco/ --model efficientnet-lite0 --method gradcam++ --background saliency",
        "mmexplain study seeds --data photos/ --model efficientnet-lite0 --out seeds/ --photos",
    ),
)
@click.option(
    "--data",
    metavar="PATH",
    required=True,
    help="VOC, COCO, ImageNet's layout (see 'mmexplain evaluate --help'), or photos in folders named for their class.",
)
@click.option("--model", metavar="ID|PATH", required=True, help="Classifier, see 'mmexplain models'.")
@click.option("--method", metavar="NAME", default="gradcam", show_default=True, help="See 'mmexplain methods'.")
@layer_option
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.2,
    show_default=True,
    help="Share of a map's maximum from which on a pixel is a seed of its class.",
)
@click.option(
    "--background",
    type=click.Choice(["maps", "saliency"]),
    default="maps",
    show_default=True,
    help="Seeds of the background: where the maps of all given classes are low, or where the gradient is (as SEC).",
)
@click.option(
    "--level",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.1,
    show_default=True,
    help="Of 'maps': the share of its maximum that no map exceeds there; of 'saliency': the share of the photo.",
)
@click.option(
    "--conflicts",
    type=click.Choice(["smallest", "strongest"]),
    default="smallest",
    show_default=True,
    help="Which class has a pixel that several claim: that of the smallest seed (as SEC) or of the strongest map.",
)
@click.option("--grabcut/--no-grabcut", default=True, show_default=True, help="Label every pixel by GrabCut.")
@seed_option("Of whatever is drawn at random.")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), help="The first N photos only.")
@device_option
@click.option(
    "--out",
    metavar="DIR",
    help="Folder for study.json, study.md and study.png, and for masks and cues as trainers read them: PASCAL VOC's "
    "layout, and SEC's cues as safetensors.",
)
@click.option("--photos", is_flag=True, help="Copy the photos to --out too, upright as the masks are.")
@json_option
def seeds(
    data: str,
    model: str,
    method: str,
    layer: str | None,
    limit: int | None,
    device: str,
    out: str | None,
    photos: bool,
    as_json: bool,
    **recipe: Any,
) -> None:
    """Turn maps of the classes that are known to be in photos into masks to train segmentation with, and measure them
    where people drew masks.

    The controls: a Gaussian in the middle, and maps of classes that are not in the photo, must make worse masks.
    """
    existing(data)
    if photos and out is None:
        raise InputError("--photos copies them to --out: name a folder")
    folder = writable(out, "a study")
    with working("loading the model"):
        from mmexplain.memory import keep_freed
        from mmexplain.studies.annotation.seed_recipe import Recipe
        from mmexplain.studies.annotation.seeds import study_seeds
        from mmexplain.studies.annotation.seeds_told import seeds_figure
        from mmexplain.tasks.registry import load, task_of_several

        keep_freed()
        task = load(model, task_of_several(model, "classify"), device)
    try:
        with counting("seeds") as progress:
            study, files = study_seeds(
                task,
                data,
                Recipe(**recipe),
                method=method,
                layer=layer,
                limit=limit,
                out=folder,
                photos=photos,
                progress=progress,
            )
    except KeyboardInterrupt:
        raise Stopped(
            "masks that were written stay, without their lists" if folder else "nothing was written"
        ) from None
    saved = study.save(folder, seeds_figure(study)) if folder else []
    show(study, [*files, *saved], as_json)
