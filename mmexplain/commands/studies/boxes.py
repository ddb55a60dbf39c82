"""``study boxes``: boxes from maps, for a labelling tool."""

from __future__ import annotations

from pathlib import Path

import click

from mmexplain.commands.folder import existing, writable
from mmexplain.commands.options import device_option, examples, json_option, layer_option, seed_option
from mmexplain.commands.progress import counting, working
from mmexplain.commands.stopping import Stopped
from mmexplain.commands.studies.showing import show


def _share(context: click.Context, parameter: click.Parameter, value: str) -> float | None:
    """A threshold; None for one that is to be calibrated."""
    if value == "calibrated":
        return None
    try:
        share = float(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is neither a number nor 'calibrated'", context, parameter) from None
    if not 0 < share < 1:
        raise click.BadParameter(f"{value} is no share of the map's maximum between 0 and 1", context, parameter)
    return share


@click.command(
    short_help="Boxes from maps, for a labelling tool.",
    epilog=examples(
        "mmexplain study boxes --data photos/ --model efficientnet-lite0 --out boxes/ --format yolo --photos",
        "mmexplain study boxes --data photos/ --model efficientnet-lite0 --top 3 --out boxes/",
        "mmexplain study boxes --data coco/ --model efficientnet-lite0 --threshold calibrated --out boxes/",
    ),
)
@click.option(
    "--data",
    metavar="PATH",
    required=True,
    help="VOC, COCO, ImageNet's layout (see 'mmexplain evaluate --help'), or a folder of photos; those in folders are "
    "of the class that the folder is named for.",
)
@click.option("--model", metavar="ID|PATH", required=True, help="Classifier, see 'mmexplain models'.")
@click.option("--method", metavar="NAME", default="gradcam", show_default=True, help="See 'mmexplain methods'.")
@layer_option
@click.option(
    "--threshold",
    metavar="SHARE|calibrated",
    callback=_share,
    default="0.15",
    show_default=True,
    help="Share of the map's maximum that a box's segment has at least; 'calibrated' tries several on every other "
    "photo, where people drew boxes.",
)
@click.option(
    "--top",
    "count",
    metavar="K",
    type=click.IntRange(min=1),
    help="Boxes of the K likeliest classes.  [default: of the classes that the data names, or else of the likeliest]",
)
@click.option(
    "--format",
    "formats",
    type=click.Choice(["coco", "yolo"]),
    multiple=True,
    default=("coco",),
    show_default=True,
    help="Repeatable. COCO's JSON of instances (with scores), or YOLO's text files.",
)
@click.option("--confidence", is_flag=True, help="YOLO: the score as a sixth number, which trainers do not want.")
@click.option("--photos", is_flag=True, help="Copy the photos to --out too, upright as the boxes are.")
@seed_option("Of whatever is drawn at random.")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), help="The first N photos only.")
@device_option
@click.option(
    "--out", metavar="DIR", required=True, help="Folder for the boxes, and for study.json, study.md and study.png."
)
@json_option
def boxes(
    data: str,
    model: str,
    method: str,
    layer: str | None,
    threshold: float | None,
    count: int | None,
    formats: tuple[str, ...],
    confidence: bool,
    photos: bool,
    seed: int,
    limit: int | None,
    device: str,
    out: str,
    as_json: bool,
) -> None:
    """Draw a box around what the map of each class marks, and write them, with scores, for a labelling tool.

    Where people drew boxes, theirs are held against these; the controls, a box in the middle and the box of a class
    that is not in the photo, must be worse.
    """
    existing(data)
    folder = writable(out, "a study")
    assert folder is not None
    with working("loading the model"):
        from mmexplain.memory import keep_freed
        from mmexplain.studies.annotation.box_files import copy_photos, file_names, write_coco, write_yolo
        from mmexplain.studies.annotation.boxes import study_boxes
        from mmexplain.studies.annotation.boxes_told import boxes_figure
        from mmexplain.studies.annotation.photo_files import require_apart
        from mmexplain.tasks.registry import load, task_of_several

        require_apart(folder, Path(data), (), "images")  # before anything takes its time; once more with the photos
        keep_freed()
        task = load(model, task_of_several(model, "classify"), device)
    try:
        with counting("boxes") as progress:
            study, annotated = study_boxes(
                task,
                data,
                method=method,
                layer=layer,
                threshold=threshold,
                count=count,
                limit=limit,
                seed=seed,
                progress=progress,
            )
    except KeyboardInterrupt:
        raise Stopped("nothing was written") from None
    require_apart(folder, Path(data), [one.photo.path for one in annotated], "images")
    files = [copy_photos(folder, annotated)] if photos else []
    names = file_names(annotated, photos)
    if "coco" in formats:
        about = f"boxes drawn by mmexplain from maps of {model}, {method}; not checked by people"
        files.append(write_coco(folder, annotated, names, about))
    if "yolo" in formats:
        files += write_yolo(folder, annotated, names, confidence)
    show(study, [*files, *study.save(folder, boxes_figure(study))], as_json)
