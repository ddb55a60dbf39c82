"""The tab of layers: one photo, and its maps at every stage of a network."""

from __future__ import annotations

import shlex
from pathlib import Path
from threading import Event
from typing import Any

import gradio as gr

from mmexplain.app import pieces
from mmexplain.app.asked import Asked, operands
from mmexplain.app.panel import QUEUE, Panel, Room, Updates
from mmexplain.app.results import stem
from mmexplain.layer_report import LayersReport
from mmexplain.methods import DEFAULT_METHOD, METHODS

FILES = (".png", ".html", ".json", ".safetensors")


def layers(room: Room) -> None:
    """Maps at the stages of a network or at all of its blocks, and how they change with depth."""
    panel = Panel(room, "classify")
    choices = [
        (f"{model} ({noun})", f"{verb}={model}")
        for verb, noun in (("classify", "classes"), ("caption", "captions"), ("vqa", "questions"))
        for model in room.desk.shelf.names(verb)
    ]
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            panel.photo()
            model = gr.Dropdown(choices, value=choices[0][1], label="Model")
            text = gr.Textbox(label="Caption or question", info="For captioners and VQA models.", max_length=500)
            targets = gr.Textbox(
                label="Classes, words or answers",
                info="With commas between. Empty: the two likeliest, or every word.",
                max_length=500,
            )
            blocks = gr.Checkbox(label="Every block, not only the last of each stage")
            method = gr.Dropdown(
                [one.name for one in METHODS.values() if one.space == "layer"], value=DEFAULT_METHOD, label="Method"
            )
            panel.buttons("Compare")
        with gr.Column(scale=5, min_width=320):
            panel.answer(FILES)

    def work(source: Any, chosen: str, said: str, named: str, every: bool, how: str, stop: Event, told: Any) -> Updates:
        verb, _, name = chosen.partition("=")
        asked = Asked(verb, source or "", name, (how,), (), said, tuple((named or "").split(","))).checked()
        report = room.desk.layers(asked, every, told, stop)
        return {
            panel.status: pieces.note(f"{report.explanation.model}: {report.method} at {len(report.layers)} layers"),
            panel.view: pieces.framed(_page(report), "Maps layer by layer"),
            panel.code: pieces.code(_python(asked, every), _command(asked, every)),
            **_files(panel, report),
        }

    def handle(
        source: Any,
        chosen: str,
        said: str,
        named: str,
        every: bool,
        how: str,
        request: gr.Request,
        progress: Any = gr.Progress(),  # noqa: B008
    ) -> Updates:
        def told(done: int, total: int) -> None:
            progress((done, total), desc="explaining")

        return panel.guarded(lambda stop: work(source, chosen, said, named, every, how, stop, told), request)

    begun = gr.on(
        [panel.go.click, panel.source.change, text.submit, targets.submit],
        handle,
        [panel.source, model, text, targets, blocks, method],
        [panel.status, panel.view, panel.code, *panel.files.values()],
        show_progress_on=panel.view,
        **QUEUE,
    )
    panel.stops(begun)


def _page(report: LayersReport) -> str:
    from mmexplain.render.layers import layers_html

    return layers_html(report)


def _files(panel: Panel, report: LayersReport) -> Updates:
    folder: Path = panel.room.results.folder()
    files = {suffix: report.save(folder / f"{stem(report.explanation)}{suffix}") for suffix in FILES}
    return {panel.files[suffix]: gr.DownloadButton(value=str(file), interactive=True) for suffix, file in files.items()}


def _text(asked: Asked) -> dict[str, str]:
    names = {"vqa": "question", "caption": "caption"}
    return {names[asked.verb]: asked.text} if asked.text and asked.verb in names else {}


def _python(asked: Asked, blocks: bool) -> str:
    told = {**({"layers": "blocks"} if blocks else {}), "method": asked.methods[0], **_text(asked)}
    listed = [repr(asked.name), repr(list(asked.targets) or None), *(f"{key}={value!r}" for key, value in told.items())]
    return "\n".join(
        [
            "import mmexplain",
            "",
            f"task = mmexplain.load({asked.model!r}, task={asked.verb!r})",
            f"report = mmexplain.layers_report(task, {', '.join(listed)})",
            "report.save('layers.html')  # or .png, .json, .safetensors",
            "",
        ]
    )


def _command(asked: Asked, blocks: bool) -> str:
    line = ["mmexplain", "layers-report", "--model", asked.model]
    line += [word for name in asked.targets for word in ("--target", name)]
    line += [word for key, value in _text(asked).items() for word in (f"--{key}", value)]
    line += ["--blocks"] if blocks else []
    return shlex.join([*line, "--method", asked.methods[0], *operands(asked.name)])
