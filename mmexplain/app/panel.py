"""What all tabs have: a photo or clip, a model with its methods and layers, the answer, and what to take home."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import gradio as gr

from mmexplain.app import pieces, samples
from mmexplain.app.asked import Asked, Missing
from mmexplain.app.desk import Desk, Stopped, told
from mmexplain.app.results import Results
from mmexplain.app.uploads import clip_input, photo_input
from mmexplain.errors import MMExplainError
from mmexplain.explanation import Explanation
from mmexplain.methods import DEFAULT_METHOD, METHODS
from mmexplain.render import report_html

QUEUE: dict[str, Any] = {"concurrency_id": "models", "concurrency_limit": 1, "api_visibility": "private"}
"""One request at a time has the models: two at once would take twice the memory and be no faster."""

FILES: dict[str, Any] = {"concurrency_id": "files", "concurrency_limit": 1, "api_visibility": "private"}

CHOICES: dict[str, Any] = {"concurrency_id": "choices", "concurrency_limit": 4, "api_visibility": "private"}

Updates = dict[Any, Any]


@dataclass
class Room:
    """What the tabs share.

    Attributes:
        desk: answers.
        results: keeps files.
        stops: for each browser and tab of it that waits, what calls its request off.
    """

    desk: Desk
    results: Results
    stops: dict[tuple[str, int], Event] = field(default_factory=dict)

    def leave(self, request: gr.Request) -> None:
        """A browser has gone: nobody waits for its requests any more."""
        for place in [place for place in self.stops if place[0] == request.session_hash]:
            self.stops[place].set()


class Panel:
    """The common components of a tab, made within its ``gr.Tab``, and what happens to them.

    Args:
        room: what the tabs share.
        verb: of its models.
    """

    def __init__(self, room: Room, verb: str) -> None:
        self.room = room
        self.verb = verb
        self.clip = verb == "action"
        self.source: Any

    # -- columns ----------------------------------------------------------------------------------------------------

    def photo(self) -> None:
        """The photo or the clip, with samples to begin with."""
        self.source = clip_input() if self.clip else photo_input()
        files = samples.installed(samples.CLIPS if self.clip else samples.PHOTOS)
        if files:
            gr.Examples([[str(file)] for file in files], self.source, label="Samples", cache_examples=False)

    def settings(self) -> None:
        """Model, methods, layers, and whether to check them."""
        names = self.room.desk.shelf.names(self.verb)
        with gr.Accordion("Model, method, layer", open=False) as settings:
            self.model = gr.Dropdown(names, value=names[0], label="Model", interactive=len(names) > 1)
            self.methods = gr.Dropdown(
                [(f"{one.name}: {one.summary}", one.name) for one in METHODS.values()],
                value=[DEFAULT_METHOD],
                multiselect=True,
                label="Methods",
                info="Several are shown side by side. With parameters: occlusion(patch=15)",
                allow_custom_value=True,
            )
            self.layers = gr.Dropdown(
                [],
                value=[],
                multiselect=True,
                label="Layers",
                info="Empty: the model's own choice. A name, or a glob such as encoder.blocks.?.0",
                allow_custom_value=True,
            )
            self.sanity = gr.Checkbox(
                label="Compare with random weights",
                info="Tells whether the map depends on what the model learned; takes about four times as long.",
            )
        # Only who looks at the layers needs the model to be loaded for it.
        settings.expand(self._layers, self.model, self.layers, show_progress="hidden", **CHOICES)
        self.model.change(
            lambda model: gr.Dropdown(choices=self.room.desk.layers_of(self.verb, model), value=[]),
            self.model,
            self.layers,
            show_progress="hidden",
            **CHOICES,
        )

    def buttons(self, label: str = "Explain") -> None:
        """To begin, and to call off."""
        with gr.Row():
            self.go = gr.Button(label, variant="primary", scale=3)
            self.stop = gr.Button("Stop", scale=1)

    def answer(self, suffixes: Sequence[str]) -> None:
        """The answer, what a tab adds to it, files to take home, and the code that asks the same."""
        self.status = gr.HTML(pieces.note(self._begin()))
        self.more = gr.HTML()
        self.view = gr.HTML()
        with gr.Row():
            self.files = {
                suffix: gr.DownloadButton(_NAMES[suffix], size="sm", interactive=False) for suffix in suffixes
            }
        self.code = gr.HTML()
        self.kept = gr.State(None, time_to_live=3600)

    # -- events -----------------------------------------------------------------------------------------------------

    def asks(
        self, triggers: Sequence[Any], asked: Callable[..., Asked | None], inputs: Sequence[Any], **also: Any
    ) -> Any:
        """Explain what ``asked`` makes of the inputs whenever one of the triggers fires.

        Args:
            triggers: events such as ``button.click``.
            asked: values of the inputs → what is asked; None for nothing.
            inputs: components, after source, model, methods, layers and sanity, which come first.
            also: ``answered`` (explanation, the one before → more updates), ``outputs`` of it.
        """
        answered: Callable[[Explanation, Explanation | None], Updates] | None = also.get("answered")
        common = [self.source, self.model, self.methods, self.layers, self.sanity]
        shown = [self.status, self.view, self.code, self.kept, *self.files.values()]

        # Gradio looks at these two by their place; what it cannot name comes behind them.
        def handle(request: gr.Request, progress: Any = gr.Progress(), kept: Any = None, *values: Any) -> Updates:  # noqa: B008
            def work(stop: Event) -> Updates:
                record = asked(*values)
                if record is None:
                    return {}
                begun = time.perf_counter()
                explanation = self.room.desk.explain(record, _told(progress), stop)
                waited = time.perf_counter() - begun
                before = self.room.results.load(kept)
                more = answered(explanation, before) if answered else {}
                record = replace(record, reads=bool(explanation.text_maps))
                return {**self._shown(explanation, record, _foremost(explanation, before), waited), **more}

            return self.guarded(work, request)

        begun = gr.on(
            list(triggers),
            handle,
            [self.kept, *common, *inputs],
            [*shown, *also.get("outputs", ())],
            show_progress_on=self.view,
            trigger_mode="always_last",  # a slider that is drawn asks many times: the last one counts
            **QUEUE,
        )
        for suffix in [suffix for suffix in self.files if suffix in (".png", ".mp4")]:
            begun.success(partial(self._drawn, suffix), self.kept, self.files[suffix], show_progress="hidden", **FILES)
        self.stops(begun)
        return begun

    def stops(self, begun: Any) -> None:
        """Let the stop button call off what has begun."""
        self.stop.click(self._called_off, None, self.status, cancels=[begun], queue=False, api_visibility="private")

    def guarded(self, work: Callable[[Event], Updates], request: gr.Request) -> Updates:
        """Do ``work``; whatever goes wrong is told in place, and what was shown before stays."""
        place = (str(request.session_hash), id(self))
        stop = self.room.stops[place] = Event()
        try:
            return work(stop)
        except (Stopped, Missing) as error:
            return {self.status: pieces.note(str(error))}
        except Exception as error:
            return {self.status: pieces.problem(told(error))}
        finally:
            if self.room.stops.get(place) is stop:
                del self.room.stops[place]

    def _called_off(self, request: gr.Request) -> str:
        stop = self.room.stops.get((str(request.session_hash), id(self)))
        if stop is not None:
            stop.set()
        return pieces.note("stopped")

    def _shown(self, explanation: Explanation, asked: Asked, foremost: int | None, waited: float) -> Updates:
        folder = self.room.results.folder()
        page = report_html([explanation], chosen=foremost)
        kept = self.room.results.keep(explanation, folder, ".safetensors")
        web = kept.with_suffix(".html")
        web.write_text(page, encoding="utf-8")
        files = {".safetensors": kept, ".html": web}
        return {
            self.status: pieces.note(_said(explanation, waited)),
            self.view: pieces.framed(page, "Where the model looked"),
            self.code: pieces.code(asked.python(), asked.command()),
            self.kept: str(kept),
            **{
                button: gr.DownloadButton(
                    value=str(files[suffix]) if suffix in files else None, interactive=suffix in files
                )
                for suffix, button in self.files.items()
            },
        }

    def _drawn(self, suffix: str, kept: str | None) -> Any:
        """A file that takes longer to make than the answer itself: it comes when the answer is there already."""
        try:
            explanation = self.room.results.load(kept)
            if explanation is not None and kept is not None:
                file = self.room.results.keep(explanation, Path(kept).parent, suffix)
                return gr.DownloadButton(value=str(file), interactive=True)
        except (MMExplainError, OSError):
            logging.getLogger(__name__).exception("a file of the app could not be written")
        return gr.DownloadButton(interactive=False)

    def _layers(self, model: str) -> Any:
        return gr.Dropdown(choices=self.room.desk.layers_of(self.verb, model))

    def _begin(self) -> str:
        return f"Upload a {'clip' if self.clip else 'photo'}, or take a sample."


_NAMES = {
    ".png": "Save PNG",
    ".html": "Save HTML",
    ".mp4": "Save MP4",
    ".json": "Save numbers (JSON)",
    ".safetensors": "Save maps (safetensors)",
}


def _told(progress: Any) -> Callable[[int, int], None]:
    return lambda done, total: progress((done, total), desc="explaining")


def _said(explanation: Explanation, waited: float) -> str:
    maps = len(explanation) * len(explanation.maps)
    return f"{explanation.model}: {maps} map{'s' if maps > 1 else ''} in {waited:.2f} s"


def _foremost(explanation: Explanation, before: Explanation | None) -> int | None:
    """The target that people want to see first: a contrast they asked for, else what was not there before."""
    known = [target.label for target in before.targets] if before is not None else []
    for number, target in enumerate(explanation.targets):
        if target.kind == "contrast" and target.label not in known:
            return number
    contrasts = [number for number, target in enumerate(explanation.targets) if target.kind == "contrast"]
    if contrasts:
        return contrasts[-1]
    if before is None or before.text is None or before.picture.source != explanation.picture.source:
        return None
    new = [n for n, target in enumerate(explanation.targets) if target.content and target.label not in known]
    return new[0] if new else None
