"""The page: a tab for each verb."""

from __future__ import annotations

from importlib import resources

import gradio as gr

from mmexplain.app import api
from mmexplain.app.layers_tab import layers
from mmexplain.app.panel import Room
from mmexplain.app.tabs import captions, outcomes, questions

TITLE = "mmexplain: where the model looked"

UPLOAD_SECONDS = 3600
"""Uploads older than this are deleted."""


def build(room: Room) -> gr.Blocks:
    """The page and its API, over what the tabs share."""
    page: gr.Blocks
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, UPLOAD_SECONDS)) as page:
        gr.HTML(
            "<h1>Where did the model look?</h1>"
            "<p>One map for every word, answer, class or action, in the pixels of your photo.</p>",
            elem_classes="mm-head",
        )
        with gr.Tab("Captions", id="captions"):
            captions(room)
        with gr.Tab("Questions", id="questions"):
            questions(room)
        with gr.Tab("Classes", id="classes"):
            outcomes(room, "classify", "Classes")
        with gr.Tab("Actions", id="actions"):
            outcomes(room, "action", "Actions")
        with gr.Tab("Layers", id="layers"):
            layers(room)
        api.endpoints(room)
        page.unload(room.leave)
    return page


def theme() -> gr.themes.Base:
    """Gradio's plain theme with the machine's own fonts: nothing is fetched from anywhere."""
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "Arial", "sans-serif"]
    plain = gr.themes.Default(
        primary_hue="blue", neutral_hue="stone", font=fonts, font_mono=["ui-monospace", "monospace"]
    )
    # Gradio's own greys and blue are too faint to be read by everybody.
    return plain.set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_label_text_color="*neutral_600",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
    )


def style() -> str:
    """The page's own style sheet."""
    return resources.files("mmexplain.app").joinpath("app.css").read_text(encoding="utf-8")


def head() -> str:
    """The page's own script."""
    return f"<script>{resources.files('mmexplain.app').joinpath('app.js').read_text(encoding='utf-8')}</script>"
