"""What every explaining verb does: read, load, explain, print and write."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmexplain.commands.options import Request
from mmexplain.commands.output import Destination
from mmexplain.commands.progress import working

if TYPE_CHECKING:
    from mmexplain.evaluate.randomisation import Verdict
    from mmexplain.explanation import Explanation


def text_methods(names: tuple[str, ...]) -> str | tuple[str, ...]:
    """What ``--text`` means to the library."""
    return "all" if "all" in names else tuple(name for name in names if name != "none")


def explain(
    task_name: str, request: Request, options: Callable[[Any], dict[str, Any]], read: Callable[[str], Any] | None = None
) -> None:
    """Explain the source of a request, print what was found and write it where it was asked for.

    What is quick to check is checked before what is slow to do.

    Args:
        task_name: the verb.
        request: what every verb is told.
        options: task → what its ``explain`` is told besides.
        read: path → the video that is explained; a photo is read if None.
    """
    out = request.out
    if out is None and not request.as_json:
        out = f"{Path(request.source).stem or 'photo'}.mmexplain.html"
    destination = None if out is None else Destination(out, request.source, clip=read is not None)
    with working("starting") as say:
        from mmexplain.methods.registry import select

        say("reading the video" if read else "reading the photo")
        source = (read or _photo)(request.source)
        select(request.methods)
        say("loading the model")
        from mmexplain.tasks.registry import DEFAULTS, load

        model = DEFAULTS[task_name] if request.model is None else request.model
        task: Any = load(model, task=task_name, device=request.device)
        say("explaining")
        # Windows of a long clip, or what methods change in the input: channels, masks, patches.
        shared: dict[str, Any] = {
            "layers": list(request.layers) or None,
            "methods": request.methods,
            "precision": request.precision,
            "progress": lambda done, total: say(f"explaining: {done} of {total} steps"),
        }
        told = {**options(task), **shared}
        explanation = task.explain(source, **told)
        verdicts = []
        if request.sanity:
            from mmexplain.evaluate.randomisation import quick

            say("explaining again with random weights")
            verdicts = quick(task, source, explanation, **told)
            # Kept with the maps, in the file too.
            explanation.provenance["sanity"] = [verdict.to_json() for verdict in verdicts]
    files: list[str] = []
    try:
        if destination is not None:
            with working("writing") as say:
                destination.write(explanation, files, say)
    finally:  # what was computed is printed, even if it could not be written
        _print(explanation, files, request.as_json, verdicts)


def _photo(path: str) -> Any:
    from mmexplain.io import load_image

    return load_image(path)


def _print(explanation: Explanation, files: list[str], as_json: bool, verdicts: Sequence[Verdict]) -> None:
    if as_json:
        from mmexplain.record import record

        click.echo(json.dumps(record(explanation, files), indent=2, allow_nan=False))
        return
    from mmexplain.commands.tables import show_explanation

    show_explanation(explanation, files)
    for verdict in verdicts:
        click.echo(verdict.line())
