"""The tabs: what each verb asks beyond a photo and a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr
import torch

from mmexplain.app import pieces
from mmexplain.app.asked import TOP, Asked
from mmexplain.app.changes import changes, log_probability
from mmexplain.app.desk import MOST_CAPTIONS
from mmexplain.app.panel import CHOICES, QUEUE, Panel, Room, Updates
from mmexplain.explanation import Explanation

PHOTO_FILES = (".png", ".html", ".safetensors")
CLIP_FILES = (".png", ".html", ".mp4", ".safetensors")


def captions(room: Room) -> None:
    """Captions: the model's own, one's own, one with another word in it, and those that the model considered."""
    panel = Panel(room, "caption")
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            panel.photo()
            caption = gr.Textbox(
                label="Caption",
                info="Empty: the model speaks. Change a word, or write your own, and press Enter.",
                max_lines=4,
                max_length=500,
            )
            panel.buttons()
            with gr.Accordion("One word rather than another", open=False), gr.Row():
                word = gr.Textbox(label="Word of the caption", min_width=120, max_length=100)
                other = gr.Textbox(label="rather than", min_width=120, max_length=100)
            panel.settings()
        with gr.Column(scale=5, min_width=320):
            panel.answer(PHOTO_FILES)
            with gr.Row(equal_height=True):
                count = gr.Slider(
                    2, MOST_CAPTIONS, value=3, step=1, label="Captions that the model considered", scale=2
                )
                compare = gr.Button("Show them side by side", scale=1)
            beams = gr.HTML()

    def ask(source: Any, model: str, methods: Any, layers: Any, sanity: bool, *said: str) -> Asked:
        text, one, against = said
        return Asked("caption", source or "", model, methods, layers, text, versus=_pair(one, against), sanity=sanity)

    def speak(source: Any, model: str, methods: Any, layers: Any, sanity: bool) -> Asked:
        return Asked("caption", source or "", model, methods, layers, sanity=sanity)

    def answered(explanation: Explanation, before: Explanation | None) -> Updates:
        told = ""
        same = before is not None and _comparable(before, explanation)
        if before is not None and same and before.words != explanation.words:
            rows = changes(before, explanation)
            told = pieces.changed(rows, log_probability(before), log_probability(explanation))
        return {panel.more: told, caption: explanation.text, **({} if same else {beams: ""})}

    more: dict[str, Any] = {"answered": answered, "outputs": [panel.more, caption, beams]}
    panel.asks([panel.go.click, caption.submit, word.submit, other.submit], ask, [caption, word, other], **more)
    # A new photo has a new caption, and so has another model.
    panel.asks([panel.source.change], speak, [], **more)
    panel.model.change(lambda: "", None, caption, queue=False, api_visibility="private")

    def considered(source: Any, model: str, methods: Any, layers: Any, number: int, request: gr.Request) -> Updates:
        asked = Asked("caption", source or "", model, methods, layers)
        return panel.guarded(
            lambda stop: {beams: pieces.alternatives(room.desk.alternatives(asked, int(number), stop), int(number))},
            request,
        )

    shown = [panel.source, panel.model, panel.methods, panel.layers, count]
    panel.stops(compare.click(considered, shown, [beams, panel.status], show_progress_on=beams, **QUEUE))


def questions(room: Room) -> None:
    """Questions: the model's own answer, several that it is made to consider, one rather than another."""
    panel = Panel(room, "vqa")
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            panel.photo()
            question = gr.Textbox(label="Question", placeholder="what is the dog doing", max_length=500)
            answers = gr.Dropdown(
                room.desk.answers_of(),
                value=[],
                multiselect=True,
                max_choices=16,
                allow_custom_value=True,
                label="Answers to consider",
                info="Besides the model's own. Type to find one.",
            )
            with gr.Accordion("One answer rather than another", open=False):
                with gr.Row():
                    one = gr.Textbox(label="Answer", min_width=120, max_length=100)
                    other = gr.Textbox(label="rather than", min_width=120, max_length=100)
                weight = gr.Slider(
                    0,
                    1,
                    value=1,
                    step=0.1,
                    label="How much of the other is taken away",
                    info="0: where the first answer comes from. 1: what speaks for it and not for the other.",
                )
            panel.buttons("Ask")
            panel.settings()
        with gr.Column(scale=5, min_width=320):
            panel.answer(PHOTO_FILES)

    def ask(source: Any, model: str, methods: Any, layers: Any, sanity: bool, *said: Any) -> Asked:
        text, named, first, second, part = said
        pair = _pair(first, second)
        return Asked("vqa", source or "", model, methods, layers, text, named, pair, float(part), sanity=sanity)

    inputs = [question, answers, one, other, weight]
    asked = [panel.go.click, panel.source.change, question.submit, answers.change, one.submit, other.submit]
    panel.asks(asked, ask, inputs)
    panel.asks([weight.change], _with_contrast(ask), inputs)
    panel.model.change(
        lambda model: gr.Dropdown(choices=room.desk.answers_of(model), value=[]), panel.model, answers, **CHOICES
    )


def outcomes(room: Room, verb: str, noun: str) -> None:
    """Classes of a photo, or actions in a clip: the likeliest, those that are named, one rather than another."""
    panel = Panel(room, verb)
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            panel.photo()
            targets = gr.Textbox(
                label=noun,
                info=f"Names with commas between. Empty: the {TOP[verb]} likeliest.",
                placeholder="tiger cat, tabby" if verb == "classify" else "arm wrestling, playing cricket",
                max_length=500,
            )
            with gr.Accordion("One rather than another", open=False):
                with gr.Row():
                    one = gr.Textbox(label="Name", min_width=120, max_length=100)
                    other = gr.Textbox(label="rather than", min_width=120, max_length=100)
                weight = gr.Slider(0, 1, value=1, step=0.1, label="How much of the other is taken away")
            panel.buttons()
            panel.settings()
        with gr.Column(scale=5, min_width=320):
            panel.answer(CLIP_FILES if panel.clip else PHOTO_FILES)

    def ask(source: Any, model: str, methods: Any, layers: Any, sanity: bool, *said: Any) -> Asked:
        listed, first, second, part = said
        names, pair = tuple((listed or "").split(",")), _pair(first, second)
        return Asked(verb, source or "", model, methods, layers, "", names, pair, float(part), sanity=sanity)

    inputs = [targets, one, other, weight]
    panel.asks([panel.go.click, panel.source.change, targets.submit, one.submit, other.submit], ask, inputs)
    panel.asks([weight.change], _with_contrast(ask), inputs)


def _pair(one: str | None, other: str | None) -> tuple[tuple[str, str], ...]:
    """A contrast, where both of its sides are told; Gradio has None for a box that nobody wrote into."""
    both = (one or "").strip() and (other or "").strip()
    return ((str(one), str(other)),) if both else ()


def _with_contrast(ask: Callable[..., Asked]) -> Callable[..., Asked | None]:
    """The weight of a contrast asks nothing before there is one."""

    def again(*values: Any) -> Asked | None:
        asked = ask(*values)
        return asked if asked.versus else None

    return again


def _comparable(one: Explanation, other: Explanation) -> bool:
    """Whether what two say differently comes from the words: same photo, same model."""
    same = one.model == other.model and one.picture.pixels.shape == other.picture.pixels.shape
    return same and torch.equal(one.picture.pixels, other.picture.pixels)
