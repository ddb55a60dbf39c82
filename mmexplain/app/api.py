"""What programs call: the verbs of the app as functions of their own, with files in and files out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import gradio as gr
from gradio.data_classes import FileData
from gradio.events import api

from mmexplain.app.asked import TOP, Asked
from mmexplain.app.desk import told
from mmexplain.app.panel import Room
from mmexplain.app.uploads import uploaded
from mmexplain.errors import InputError
from mmexplain.record import finite, record

Made = TypeVar("Made")
Answer = tuple[dict, FileData, FileData]  # type: ignore[type-arg]


def endpoints(room: Room) -> None:
    """Add ``/caption``, ``/vqa``, ``/classify``, ``/action`` and ``/layers`` to the page that is being built.

    The first four answer with the record that ``--json`` prints, the report and the maps (safetensors); ``/layers``
    with its record and its report. Bad input ends in an error with one line that says how to mend it.
    """

    def answered(*values: Any) -> Answer:
        def work() -> Answer:
            explanation = room.desk.explain(_asked(room, *values))
            folder = room.results.folder()
            report, maps = (room.results.keep(explanation, folder, suffix) for suffix in (".html", ".safetensors"))
            return record(explanation), FileData(path=str(report)), FileData(path=str(maps))

        return _safely(work)

    def caption(
        photo: FileData,
        caption: str = "",
        words: list[str] = [],  # noqa: B006
        versus: list[list[str]] = [],  # noqa: B006
        model: str = "",
        methods: list[str] = [],  # noqa: B006
        layers: list[str] = [],  # noqa: B006
        sanity: bool = False,
    ) -> Answer:
        """A map for every word of the model's own caption, or of the one that is given."""
        return answered("caption", photo, model, methods, layers, sanity, caption, words, versus)

    def vqa(
        photo: FileData,
        question: str,
        answers: list[str] = [],  # noqa: B006
        versus: list[list[str]] = [],  # noqa: B006
        weight: float = 1.0,
        top: int = TOP["vqa"],
        model: str = "",
        methods: list[str] = [],  # noqa: B006
        layers: list[str] = [],  # noqa: B006
        sanity: bool = False,
    ) -> Answer:
        """A map for the model's own answer, and for those that it is made to consider."""
        return answered("vqa", photo, model, methods, layers, sanity, question, answers, versus, weight, top)

    def classify(
        photo: FileData,
        targets: list[str] = [],  # noqa: B006
        versus: list[list[str]] = [],  # noqa: B006
        weight: float = 1.0,
        top: int = TOP["classify"],
        model: str = "",
        methods: list[str] = [],  # noqa: B006
        layers: list[str] = [],  # noqa: B006
        sanity: bool = False,
    ) -> Answer:
        """A map for the likeliest classes, or for those that are named."""
        return answered("classify", photo, model, methods, layers, sanity, "", targets, versus, weight, top)

    def action(
        clip: FileData,
        targets: list[str] = [],  # noqa: B006
        versus: list[list[str]] = [],  # noqa: B006
        weight: float = 1.0,
        top: int = TOP["action"],
        model: str = "",
        methods: list[str] = [],  # noqa: B006
        layers: list[str] = [],  # noqa: B006
        sanity: bool = False,
    ) -> Answer:
        """A map over space and time for the likeliest actions, or for those that are named."""
        return answered("action", clip, model, methods, layers, sanity, "", targets, versus, weight, top)

    def layers(
        photo: FileData,
        task: str = "classify",
        text: str = "",
        targets: list[str] = [],  # noqa: B006
        blocks: bool = False,
        model: str = "",
        method: str = "gradcam",
    ) -> tuple[dict, FileData]:  # type: ignore[type-arg]
        """Maps at the stages of a network, or at all of its blocks; ``task`` is caption, vqa or classify."""

        def work() -> Any:
            asked = _asked(room, task, photo, model, [method], [], False, text, targets)
            report = room.desk.layers(asked, blocks)
            return report, report.save(room.results.folder() / "layers.html")

        report, file = _safely(work)
        return finite(report.to_json()), FileData(path=str(file))

    for verb in (caption, vqa, classify, action, layers):
        api(verb, api_name=verb.__name__, concurrency_id="models", concurrency_limit=1)


def _asked(
    room: Room,
    verb: str,
    source: Any,
    model: str,
    methods: list[str],
    layers: list[str],
    sanity: bool,
    text: str,
    targets: list[str],
    versus: list[list[str]] = [],  # noqa: B006
    weight: float = 1.0,
    top: int | None = None,
) -> Asked:
    """What a program asked, whose values may be anything.

    Raises:
        InputError: a value that is not what it should be.
    """
    path = uploaded(source.get("path") if isinstance(source, dict) else getattr(source, "path", None))
    for name, value, kind, noun in (
        ("model", model, str, "a text"),
        ("text", text, str, "a text"),
        ("sanity", sanity, bool, "true or false"),
        ("weight", weight, int | float, "a number"),
        ("top", top, int | None, "a whole number"),
    ):
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise InputError(f"{name} is {noun}, not {value!r:.80}")
    pairs = versus if isinstance(versus, list) else [versus]
    if not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(one, str) for one in pair) for pair in pairs
    ):
        raise InputError(f"versus is a list of pairs of names, such as [['dog', 'cat']]; got {versus!r:.80}")
    return Asked(
        verb,
        path,
        model or room.desk.shelf.names(verb)[0],
        _names("methods", methods),
        _names("layers", layers),
        text,
        _names("targets", targets),
        tuple((one, other) for one, other in pairs),
        float(weight),
        top,
        sanity,
    )


def _names(what: str, value: Any) -> tuple[str, ...]:
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise InputError(f"{what} is a list of names, not {value!r:.80}")
    return tuple(listed)


def _safely(work: Callable[[], Made]) -> Made:
    """Run ``work``; what went wrong reaches the caller as one line."""
    try:
        return work()
    except Exception as error:
        raise gr.Error(told(error), print_exception=False) from None
