"""``study counterfactuals``: remove what counterfactual maps mark, and ask the model again."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from mmexplain.commands.folder import existing, writable
from mmexplain.commands.options import device_option, examples, json_option, layer_option, seed_option
from mmexplain.commands.progress import counting, working
from mmexplain.commands.studies.showing import show


@click.command(
    short_help="Remove what should make the model surer.",
    epilog=examples(
        "mmexplain study counterfactuals --data coco/ --model efficientnet-lite0 --out counterfactuals/",
        "mmexplain study counterfactuals --data photos/ --model torchvision:resnet50 --fill blur --area 0.2",
        "mmexplain study counterfactuals --data photos/ --model show-attend-tell --limit 20",
        "mmexplain study counterfactuals --data daquar/ --model deeper-lstm-norm-i --limit 50 --json",
    ),
)
@click.option(
    "--data",
    metavar="PATH",
    required=True,
    help="VOC, COCO or ImageNet with boxes; any folder of photos; for VQA models a folder with qa.jsonl and images/.",
)
@click.option("--model", metavar="ID|PATH", required=True, help="Model, see 'mmexplain models'.")
@click.option(
    "--fill",
    "fills",
    type=click.Choice(["inpaint", "blur", "mean"]),
    multiple=True,
    default=("inpaint", "blur", "mean"),
    help="What a removed region is filled with; repeatable.  [default: all three]",
)
@click.option(
    "--area",
    metavar="SHARE",
    type=float,
    default=0.1,
    show_default=True,
    help="Of what the model sees of the photo is removed, where the map is strongest: above 0, at most 0.5.",
)
@click.option(
    "--draws",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Random places that each region is moved to.",
)
@click.option(
    "--of",
    type=click.Choice(["labels", "top"]),
    help="Classes that are asked about: those marked in the data, or the model's likeliest.  [default: labels where "
    "the data has them]",
)
@layer_option
@click.option(
    "--score",
    type=click.Choice(["logit", "log-probability"]),
    default="logit",
    show_default=True,
    help="What the maps differentiate: the logit, as in the paper, or the log-probability, which evidence for other "
    "classes lowers too.",
)
@click.option("--limit", metavar="N", type=click.IntRange(min=1), help="The first N photos or questions only.")
@seed_option("Of random places and partners.")
@device_option
@click.option("--out", metavar="DIR", help="Folder for study.json, study.md, study.png (chart) and examples.png.")
@json_option
def counterfactuals(
    data: str,
    model: str,
    fills: tuple[str, ...],
    area: float,
    draws: int,
    of: str | None,
    layer: str | None,
    score: Literal["logit", "log-probability"],
    limit: int | None,
    seed: int,
    device: str,
    out: str | None,
    as_json: bool,
) -> None:
    """Does the model become surer without what its counterfactual maps mark?

    Grad-CAM's counterfactual maps (negated gradients, section 3.3 of the paper) mark regions whose removal should raise
    the score of a class. Here they are removed, and the log-probability of the class before and after is compared. What
    must do less: the same region at a random place, and what another photo's counterfactual map marks. What must do
    the opposite: the region that Grad-CAM marks.
    """
    existing(data)
    folder = writable(out, "a study")
    with working("loading the model") as say:
        from mmexplain.memory import keep_freed
        from mmexplain.studies.counterfactuals.study import Counterfactuals
        from mmexplain.tasks.registry import load

        keep_freed()
        task: Any = load(model, device=device)
        say("reading the data")
        study = Counterfactuals(
            task,
            data,
            fills=fills,
            area=area,
            draws=draws,
            layer=layer,
            score=score,
            of=of,
            limit=limit,
            seed=seed,
        )
    with counting("counterfactuals") as progress:
        found = study.run(progress)
    files: list[Path] = []
    if folder is not None:
        from mmexplain.render.page import save_page
        from mmexplain.studies.counterfactuals.figure import chart, examples_figure
        from mmexplain.studies.counterfactuals.figure import examples as chosen

        files = found.save(folder, chart(study.summary))
        files.append(save_page(examples_figure(chosen(study)), folder / "examples.png"))
    show(found, files, as_json)
