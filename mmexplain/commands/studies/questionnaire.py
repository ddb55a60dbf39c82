"""``study questionnaire``: a page that asks people about maps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmexplain.commands.folder import writable
from mmexplain.commands.options import device_option, examples, json_option
from mmexplain.commands.progress import counting, working
from mmexplain.errors import InputError

if TYPE_CHECKING:
    from mmexplain.studies.people.questionnaire import Questionnaire


@click.command(
    short_help="A page that asks people: which object is shown, which model is reliable.",
    epilog=examples(
        "mmexplain run photos/ --task classify --top 2 --method gradcam --method guided-gradcam --out store/",
        "mmexplain study questionnaire store/ --out study/",
        "mmexplain study questionnaire good/ bad/ --out trust/                     two stores of the same photos",
        "mmexplain study questionnaire coco/ --model efficientnet-lite0 --method gradcam --out study/",
        "mmexplain study questionnaire coco/ --model good.safetensors --model bad.safetensors --out trust/",
    ),
)
@click.argument("sources", metavar="SOURCE [SOURCE]", nargs=-1, required=True)
@click.option("--out", metavar="DIR", required=True, help="Folder for index.html, key.json and README.txt.")
@click.option(
    "--model",
    "models",
    metavar="ID|PATH",
    multiple=True,
    help="SOURCE is photos with marked objects (VOC, COCO's instances, annotations.jsonl), which this classifier "
    "explains; two for a study of trust, the better one first.",
)
@click.option(
    "--method",
    "methods",
    metavar="NAME",
    multiple=True,
    help="Repeatable; see 'mmexplain methods'.  [default: all of a store; gradcam with --model]",
)
@click.option("--layer", metavar="NAME", help="With --model: where maps are read.  [default: the model's last grid]")
@click.option("--where", metavar="EXPRESSION", help="Of stores: which targets, as in 'mmexplain gallery'.")
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(min=1),
    default=90,
    show_default=True,
    help="Photos at most, drawn at random.",
)
@click.option(
    "--questions", metavar="N", type=click.IntRange(min=1), help="Of one participant at most.  [default: all photos]"
)
@click.option(
    "--checks", metavar="N", type=click.IntRange(0, 20), default=4, show_default=True, help="Attention checks."
)
@click.option(
    "--control/--no-control",
    default=True,
    show_default=True,
    help="An arm of pictures that say nothing: random noise; of trust, the same map twice.",
)
@click.option(
    "--side", metavar="PX", type=click.IntRange(100, 1600), default=360, show_default=True, help="Of pictures."
)
@click.option("--title", metavar="TEXT", help="Of the page.")
@click.option("--consent", metavar="FILE", help="What participants agree to, paragraphs of plain text in UTF-8.")
@click.option("--seed", metavar="N", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
@device_option
@json_option
def questionnaire(
    sources: tuple[str, ...],
    out: str,
    models: tuple[str, ...],
    methods: tuple[str, ...],
    layer: str | None,
    where: str | None,
    limit: int,
    questions: int | None,
    checks: int,
    control: bool,
    side: int,
    title: str | None,
    consent: str | None,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """Write a page that asks people about maps; it works from a file and sends nothing anywhere.

    One store of 'mmexplain run', or one --model: which of two objects of a photo does a map show? Two stores of the
    same photos, or two models: which model seems more reliable? Name the one that is held to be better first. Give
    participants DIR/index.html and keep DIR/key.json: 'mmexplain study answers' reads their files with it.
    """
    _require(sources, models, layer, where)
    agreed = None if consent is None else _paragraphs(consent)
    folder = writable(out, "a questionnaire")
    assert folder is not None
    with working("reading"):
        from mmexplain.studies.people.questionnaire import CONSENT, require_new
        from mmexplain.studies.people.questionnaire import questionnaire as make

        require_new(folder)
        tasks = _tasks(models, device)
        stores = [] if models else _stores(sources)
    with counting("photos") as progress:
        from mmexplain.studies.people.cases import from_data, from_stores

        cases: Any = (
            from_data(
                tasks, Path(sources[0]), methods or ("gradcam",), layer=layer, limit=limit, seed=seed, progress=progress
            )
            if models
            else from_stores(stores, where=where, limit=limit, seed=seed)
        )
        made = make(
            cases,
            methods=methods,
            models=[task.model_id for task in tasks] or [store.job.model for store in stores],
            questions=questions,
            checks=checks,
            control=control,
            side=side,
            title=title,
            consent=agreed or CONSENT,
            seed=seed,
        )
        files = made.save(folder)
    _show(made, files, as_json)


def _require(sources: Sequence[str], models: Sequence[str], layer: str | None, where: str | None) -> None:
    if len(models) > 2 or len(sources) > (1 if models else 2):
        raise InputError("a questionnaire is of one store or two, or of one folder with one --model or two")
    if models and where is not None:
        raise InputError("--where chooses targets of stores: leave it out with --model")
    if layer is not None and not models:
        raise InputError("--layer is for --model: maps of a store are of the layers that it has")
    if models and not Path(sources[0]).exists():
        raise InputError(f"no such file or folder: {sources[0]!r}")


def _paragraphs(path: str) -> list[str]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise InputError(f"cannot read --consent {path!r}: {reason}") from None
    found = [" ".join(part.split()) for part in text.replace("\r\n", "\n").split("\n\n") if part.strip()]
    if not found:
        raise InputError(f"--consent {path!r} is empty: say what participants agree to")
    return found


def _tasks(models: Sequence[str], device: str) -> list[Any]:
    if not models:
        return []
    from mmexplain.tasks.registry import load

    return [load(model, task="classify", device=device) for model in models]


def _stores(sources: Sequence[str]) -> list[Any]:
    try:
        from mmexplain.jobs.store import open_store
    except ModuleNotFoundError as error:
        raise InputError(f"stores need {error.name}: pip install 'mmexplain[jobs]'") from None
    return [open_store(source) for source in sources]


def _show(made: Questionnaire, files: Sequence[Path], as_json: bool) -> None:
    design = made.design
    if as_json:
        record = {
            "study": design["study"],
            "kind": design["kind"],
            "photos": len(design["items"]),
            "pictures": len(made.images),
            "arms": [arm["method"] for arm in made.key["arms"].values()],
            "questions": design["questions"],
            "checks": len(design["checks"]),
            "bytes": files[0].stat().st_size,
            "files": [str(file) for file in files],
        }
        click.echo(json.dumps(record, indent=2))
        return
    arms = ", ".join(arm["method"] for arm in made.key["arms"].values())
    click.echo(f"study {design['study']}: {design['kind']}, {len(design['items']):,} photos; arms: {arms}")
    click.echo(f"a participant answers {design['questions']:,} questions and {len(design['checks'])} attention checks")
    click.echo(f"wrote {files[0]} ({files[0].stat().st_size / 1e6:.1f} MB): give this file to participants")
    click.echo(f"wrote {files[1]}: what its codes mean; keep it to yourself")
    click.echo(f"wrote {files[2]}")
