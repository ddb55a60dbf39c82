"""An explanation as it shows itself in a notebook: a small strip, without scripts or style sheets."""

from __future__ import annotations

from base64 import b64encode
from html import escape
from pathlib import Path

from mmexplain.explanation import Explanation
from mmexplain.geometry import fit
from mmexplain.render.curve import clip_bars
from mmexplain.render.encode import data_uri
from mmexplain.render.footage import kept_numbers
from mmexplain.render.heat import heat
from mmexplain.render.overlay import blend, photo_image
from mmexplain.render.sanity import sanity
from mmexplain.render.text import clean, percent
from mmexplain.render.view_clip import decisive
from mmexplain.render.view_text import text_view

SIDE = 200
MOST = 24
"""Targets shown; a notebook is no place for a thousand pictures."""


def notebook_html(explanation: Explanation, layer: str | None = None, method: str | None = None) -> str:
    """The photo and the map of each target at one layer by one method ; of a clip the frame that decided, and how
    important all frames were.

    Args:
        explanation: what is shown.
        layer: layer name; the first that fits where left out.
        method: method name; the first that fits where left out.

    Returns:
        HTML with inline styles only, which notebooks that strip scripts and style sheets show too.

    Raises:
        LayerError, MethodError: no such map was made.
    """
    heading = escape(clean(explanation.text or Path(explanation.picture.source or "").name or explanation.task))
    size = fit(explanation.geometry.original, SIDE)
    clip = explanation.geometry.frames is not None
    tiles = [] if clip else [_tile(data_uri(photo_image(explanation, size), "jpeg", quality=82), "photo", "", True)]
    if explanation.maps:
        key = explanation.key(layer, method)
        made = f"{escape(clean(key.made))} · {escape(clean(explanation.model))}"
        for entry in sanity(explanation):
            if (entry["layer"], entry["method"]) == (clean(key.layer), clean(key.method)):
                made += f"<br>{escape(entry['says'])}"
        for number, target in enumerate(explanation.targets[:MOST]):
            known = explanation.probabilities
            detail = percent(None if known is None else float(known[number]))
            frame, below = None, _question(explanation, number)
            if clip:
                frame = kept_numbers(explanation)[
                    decisive(explanation, explanation.peak(number, key.layer, key.method))
                ]
                below += _bars(clip_bars(explanation, number, key, frame)) + f"frame {frame}"
            shown = heat(explanation, number, key.layer, key.method, size=size, frame=frame)
            uri = data_uri(blend(photo_image(explanation, size, frame), shown), "jpeg", quality=82)
            tiles.append(_tile(uri, target.label, shown.note or detail, target.content, below))
    else:
        made = escape(clean(explanation.model))
    left_out = len(explanation) - MOST
    more = f'<div style="opacity:.7">and {left_out} more targets</div>' if explanation.maps and left_out > 0 else ""
    return (
        '<div style="font-family:system-ui,sans-serif;font-size:13px;line-height:1.4">'
        f'<div style="font-weight:600">{heading}</div><div style="opacity:.7">{made}</div>'
        f'<div style="display:flex;flex-wrap:wrap;gap:10px;margin-top:8px">{"".join(tiles)}</div>{more}</div>'
    )


def _tile(uri: str, label: str, detail: str, strong: bool, below: str = "") -> str:
    name = escape(clean(label))
    weight = "600" if strong else "400;opacity:.75"
    return (
        '<div style="width:132px;overflow-wrap:anywhere">'
        f'<img src="{uri}" alt="{name}" style="display:block;width:132px;border-radius:5px;margin:0 0 3px">'
        f'<span style="font-weight:{weight}">{name}</span> <span style="opacity:.7">{escape(detail)}</span>'
        f"{below}</div>"
    )


def _bars(svg: str) -> str:
    """A clip's curve, as a picture: notebooks strip inline SVG more often than pictures."""
    uri = f"data:image/svg+xml;base64,{b64encode(svg.encode()).decode('ascii')}"
    return (
        f'<img src="{uri}" alt="importance of each frame" style="display:block;width:132px;height:30px;margin:3px 0">'
    )


def _question(explanation: Explanation, number: int) -> str:
    """The words of a question, marked by what each added to one answer, by the method that
    :meth:`~mmexplain.explanation.Explanation.words_read` takes; nothing for other explanations."""
    if not explanation.text_maps or explanation.task != "vqa":
        return ""
    shares = text_view(explanation)[0]["parts"][number]["shares"]
    marked = []
    for word, share in zip(explanation.words, shares, strict=True):
        colour = "240,135,20" if (share or 0) > 0 else "92,92,235"
        style = f"border-radius:3px;padding:0 2px;background:rgba({colour},{0.62 * abs(share or 0):.2f})"
        marked.append(f'<span style="{style}">{escape(clean(word))}</span>')
    return f'<div style="font-size:12px">{" ".join(marked)}</div>'
