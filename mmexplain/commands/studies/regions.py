"""``study regions``: whole-image captioners asked for the captions of regions."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import click

from mmexplain.commands.folder import existing, writable
from mmexplain.commands.options import (
    device_option,
    examples,
    json_option,
    method_option,
    precision_option,
    seed_option,
)
from mmexplain.commands.progress import counting, working
from mmexplain.commands.stopping import Stopped

LOST = "what was measured is lost"


@click.command(
    short_help="Region captions against whole-image captions.",
    epilog=examples(
        "mmexplain study regions --data flickr8k/ --method gradcam --method guided-gradcam --limit 100 --out regions/",
        "mmexplain study regions --data coco/ --model show-and-tell --score logit --json",
    ),
)
@click.option(
    "--data",
    metavar="PATH",
    required=True,
    help="Flickr8k with the boxes of Flickr30k Entities; or objects in the layout of COCO, VOC or 'coco_mini', whose "
    "phrases are the names of their classes: 'a dog'.",
)
@click.option(
    "--model",
    metavar="ID|PATH",
    default="show-attend-tell",
    show_default=True,
    help="A captioner, see 'mmexplain models'.",
)
@method_option
@click.option("--layer", metavar="NAME", help="A dotted name, see 'mmexplain layers'.  [default: the model's own]")
@click.option(
    "--score",
    type=click.Choice(["log-probability", "logit"]),
    default="log-probability",
    show_default=True,
    help="What of a phrase is differentiated, summed over its words.",
)
@click.option("--split", metavar="NAME", help="Of Flickr8k.  [default: test]")
@click.option(
    "--captions",
    metavar="N",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Of each of Flickr8k's photos: phrases of its first N captions.",
)
@seed_option("Of other photos' phrases, moved boxes, and what methods draw.")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), help="The first N photos with regions only.")
@device_option
@precision_option
@click.option(
    "--out",
    metavar="DIR",
    help="Folder for study.json, study.md, study.png (how the ratios spread), photos.png (maps and boxes of the first "
    "photos) and regions.jsonl (a measurement a line).",
)
@json_option
def regions(
    data: str,
    model: str,
    methods: tuple[str, ...],
    layer: str | None,
    score: Literal["log-probability", "logit"],
    split: str | None,
    captions: int,
    seed: int,
    limit: int | None,
    device: str,
    precision: str,
    out: str | None,
    as_json: bool,
) -> None:
    """Does a captioner of whole photos look at a region when it is given the caption of that region alone?

    After the comparison with dense captioning in the Grad-CAM paper: the mean of the map inside the region's boxes over
    the mean outside, 1 for a uniform map, 3.27 in the paper. Controls: phrases of other photos, boxes moved elsewhere.
    """
    existing(data)
    folder = writable(out, "a study")
    with working("loading the model") as say:
        from mmexplain.memory import keep_freed
        from mmexplain.studies.regions import study as studies
        from mmexplain.tasks.registry import load

        keep_freed()
        task: Any = load(model, "caption", device)
        task.precision = precision
        say("reading the data")
        photos = studies.read_regions(Path(data), split, captions)
    options: dict[str, Any] = {"layer": layer, "score": score, "seed": seed}
    try:
        with counting("regions") as progress:
            study, rows = studies.regions(task, photos, methods, limit=limit, progress=progress, **options)
            files = []
            if folder is not None:
                from mmexplain.render.page import save_page
                from mmexplain.render.whole import whole
                from mmexplain.studies.regions.figures import photos_figure, spread_figure

                files = study.save(folder, spread_figure(rows))
                shown = photos_figure(task, photos[:limit], study.settings["methods"][0], **options)
                files.append(save_page(shown, folder / "photos.png"))
                files.append(folder / "regions.jsonl")
                lines = [json.dumps({k: None if v != v else v for k, v in asdict(row).items()}) for row in rows]
                with whole(files[-1]) as partial:
                    partial.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    except KeyboardInterrupt:
        raise Stopped(LOST) from None
    from mmexplain.commands.studies.showing import show

    show(study, files, as_json)
