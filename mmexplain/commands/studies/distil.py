"""``study distil``: teachers and students, and whether maps are worth learning from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mmexplain.commands.folder import writable
from mmexplain.commands.options import device_option, examples, json_option, seed_option
from mmexplain.commands.progress import counting, working
from mmexplain.commands.stopping import Stopped
from mmexplain.commands.studies.showing import show

GOES_ON = "the same command goes on after the last whole epoch"
LOST = "what was trained is lost: with --out the same command would go on"


@click.command(
    short_help="Train students that look where their teacher looks.",
    epilog=examples(
        "mmexplain study distil --data cifar10/ --device cuda --out distilled/",
        "mmexplain study distil --data flickr8k/ --teacher 16-1 --student 10-1 --epochs 10 --batch 64 --out small/",
    ),
)
@click.option(
    "--data",
    metavar="DIR",
    required=True,
    help="CIFAR-10's binary version (holds 'cifar-10-batches-bin'), or Flickr8k with the boxes of Flickr30k Entities.",
)
@click.option(
    "--teacher", metavar="DEPTH-WIDTH", default="40-2", show_default=True, help="Wide residual network that teaches."
)
@click.option("--student", metavar="DEPTH-WIDTH", default="16-2", show_default=True, help="The one that learns of it.")
@click.option(
    "--epochs",
    metavar="N",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="Of each training; the rate is cut to a fifth after 30, 60 and 80 % of them.",
)
@click.option(
    "--batch", metavar="N", type=click.IntRange(min=2), default=128, show_default=True, help="Photos in a step."
)
@click.option(
    "--rate",
    metavar="R",
    type=click.FloatRange(min=0, min_open=True),
    default=0.1,
    show_default=True,
    help="Learning rate.",
)
@click.option(
    "--alpha",
    metavar="A",
    type=click.FloatRange(min=0),
    default=0.01,
    show_default=True,
    help="Weight of the maps' squared distance.",
)
@click.option(
    "--temperature",
    metavar="T",
    type=click.FloatRange(min=0, min_open=True),
    default=4.0,
    show_default=True,
    help="At which the teacher's probabilities are softened.",
)
@click.option(
    "--method",
    metavar="NAME",
    default="gradcam++",
    show_default=True,
    help="Maps to learn from: any that can be trained through.",
)
@click.option(
    "--scale",
    type=click.Choice(["raw", "unit"]),
    default="raw",
    show_default=True,
    help="Maps as they are (the paper), or each of length one, so that only their shapes count.",
)
@click.option(
    "--seeds",
    metavar="N",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Teachers, each with students of its own.",
)
@seed_option("The first of the seeds, of weights, order, flips and cuts.")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), help="At most N photos to train, and to test on.")
@device_option
@click.option(
    "--out",
    metavar="DIR",
    help="Folder for study.json, study.md and study.png, and for the networks as they are trained: an interrupted "
    "study goes on there.",
)
@json_option
def distil(
    data: str,
    teacher: str,
    student: str,
    epochs: int,
    batch: int,
    rate: float,
    alpha: float,
    temperature: float,
    method: str,
    scale: Any,
    seeds: int,
    seed: int,
    limit: int | None,
    device: str,
    out: str | None,
    as_json: bool,
) -> None:
    """Train teachers, and students by labels, by softened probabilities, and by where the teacher looks.

    The loss is cross entropy (CE), with or without that of softened probabilities (KD), with or without α times the
    squared distance of the student's Grad-CAM++ map from the teacher's, as in Grad-CAM++, section 5. The defaults are
    the published schedule for CIFAR-10: days on a CPU, about a day on a GPU. Controls: maps of other photos and of
    an untrained teacher must not help as much.
    """
    folder = writable(out, "a study")
    with working("reading the photos"):
        from mmexplain.memory import keep_freed
        from mmexplain.studies.distil.data import read
        from mmexplain.studies.distil.study import Setup
        from mmexplain.studies.distil.study import distil as run
        from mmexplain.studies.distil.training import Recipe, Terms
        from mmexplain.tasks.registry import resolve_device

        keep_freed()
        place = resolve_device(device)
        setup = Setup(
            teacher, student, Recipe(epochs, batch, rate), Terms(alpha, temperature), method, scale, seeds, seed
        )
        setup.require()
        photos = read(Path(data), limit)
    runs = None if folder is None else folder / "networks"
    try:
        with counting("epochs") as progress:
            study, figure = run(photos, setup, device=place, folder=runs, progress=progress)
    except KeyboardInterrupt:
        raise Stopped(LOST if folder is None else GOES_ON) from None
    show(study, [] if folder is None else study.save(folder, figure), as_json)
