"""``study bias``: where a model looks in two groups of photos."""

from __future__ import annotations

from typing import Any

import click

from mmexplain.commands.folder import existing, writable
from mmexplain.commands.options import device_option, examples, json_option, layer_option, seed_option
from mmexplain.commands.progress import counting, working
from mmexplain.commands.studies.showing import show
from mmexplain.errors import InputError

DATA = "\n".join(
    [
        "\b",
        "Data, and what makes a group:",
        "  VOC, COCO, annotations.jsonl, ImageNet's XML   the class of a marked object",
        "  a folder of photos for each group              the folder; no objects are marked",
        "  flickr8k: annotations.jsonl.gz, images/        a word of captions, for captioners",
        "",
        "",
    ]
)


@click.command(
    short_help="Where a model looks in two groups of photos.",
    epilog=DATA
    + examples(
        "mmexplain study bias --data coco/ --model efficientnet-lite0 --groups dog,cat --out bias/",
        "mmexplain study bias --data flickr8k/ --model show-attend-tell --groups man,woman --limit 100",
        "mmexplain study bias --data staff/ --model my.safetensors --groups doctor,nurse --explained prediction",
        "mmexplain study bias --planted --data $MMEXPLAIN_DATA --out planted/",
    ),
)
@click.option("--data", metavar="PATH", required=True, help="Folder or file of data, see below.")
@click.option("--model", metavar="ID|PATH", help="Model, see 'mmexplain models'.  [required without --planted]")
@click.option(
    "--groups", metavar="A,B", help="Names of the two groups.  [default: the two classes of most photos, or folders]"
)
@click.option("--method", metavar="NAME", default="gradcam", show_default=True, help="See 'mmexplain methods'.")
@layer_option
@click.option(
    "--explained",
    type=click.Choice(["label", "prediction"]),
    help="The group's own class, or the likeliest of all.  [default: label, where the model has one for both]",
)
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(min=1),
    help="The first N photos of each group; with --planted: composites of a training set, 400 by default.",
)
@click.option(
    "--planted",
    is_flag=True,
    help="A case where the bias is known: animals on grass and vehicles on snow, composed of coco_mini and flickr8k in "
    "--data. Trains linear layers on a biased and on a rebalanced set, and measures both.",
)
@click.option(
    "--seeds", metavar="N", type=click.IntRange(min=1), help="With --planted: how often all is done.  [default: 3]"
)
@seed_option("Of whatever is drawn at random.")
@device_option
@click.option("--out", metavar="DIR", help="Folder for study.json, study.md and study.png.")
@json_option
def bias(
    data: str,
    model: str | None,
    groups: str | None,
    method: str,
    layer: str | None,
    explained: Any,
    limit: int | None,
    planted: bool,
    seeds: int | None,
    seed: int,
    device: str,
    out: str | None,
    as_json: bool,
) -> None:
    """Measure where a model looks in two groups of photos, and where it looks differently.

    Told are the shares of the maps' energy on the labelled object, people, other objects, the background, face-like
    areas and the centre, each over the share of the area that it takes: 1.0 is chance.
    """
    if planted:
        given = {"--model": model, "--groups": groups, "--explained": explained}
        if refused := [name for name, value in given.items() if value is not None]:
            raise InputError(f"--planted brings its own model and groups: leave out {', '.join(refused)}")
    elif model is None:
        raise InputError("name a model with --model, such as efficientnet-lite0; or measure the case --planted")
    elif seeds is not None:
        raise InputError("--seeds is for --planted")
    existing(data)
    folder = writable(out, "a study")
    common: dict[str, Any] = {"method": method, "layer": layer, "seed": seed}
    with working("starting") as say:
        import mmexplain.studies.bias as studies
        from mmexplain.memory import keep_freed
        from mmexplain.tasks.registry import load

        keep_freed()
        if not planted:
            say("loading the model")
            task: Any = load(str(model), device=device)
    with counting("bias") as progress:
        if planted:
            size: dict[str, Any] = {} if limit is None else {"train": limit}
            study = studies.planted(data, seeds=seeds or 3, device=device, progress=progress, **size, **common)
        else:
            names = [] if groups is None else [name.strip() for name in groups.split(",")]
            study = studies.bias(task, data, names, explained=explained, limit=limit, progress=progress, **common)
    figure = None if folder is None else studies.bias_figure(study)
    show(study, [] if folder is None else study.save(folder, figure), as_json)
