"""An explanation as it shows itself in a notebook: a small strip, without scripts or style sheets."""

from __future__ import annotations

from html import escape

from mmexplain.explanation import Explanation
from mmexplain.geometry import fit
from mmexplain.render.encode import data_uri
from mmexplain.render.heat import heat
from mmexplain.render.overlay import blend, photo_image
from mmexplain.render.text import clean, percent

SIDE = 200
MOST = 24
"""Targets shown; a notebook is no place for a thousand pictures."""


def notebook_html(explanation: Explanation, layer: str | None = None, method: str | None = None) -> str:
    """The photo and the map of each target at one layer by one method (the first where left out).

    Returns:
        HTML with inline styles only: notebooks that strip scripts and style sheets show it too.

    Raises:
        LayerError, MethodError: no such map was made.
    """
    heading = escape(clean(explanation.text or explanation.picture.source or explanation.task))
    size = fit(explanation.geometry.original, SIDE)
    photo = photo_image(explanation, size)
    tiles = [_tile(data_uri(photo, "jpeg", quality=82), "photo", "", True)]
    if explanation.maps:
        key = explanation.key(layer, method)
        made = f"{escape(clean(key.method))} at {escape(clean(key.layer))} · {escape(clean(explanation.model))}"
        for number, target in enumerate(explanation.targets[:MOST]):
            known = explanation.probabilities
            detail = percent(None if known is None else float(known[number]))
            shown = heat(explanation, number, key.layer, key.method, size=size)
            uri = data_uri(blend(photo, shown), "jpeg", quality=82)
            tiles.append(_tile(uri, target.label, shown.note or detail, target.content))
    else:
        made = escape(clean(explanation.model))
    left_out = len(explanation) - MOST
    more = f'<div style="opacity:.7">and {left_out} more targets</div>' if explanation.maps and left_out > 0 else ""
    return (
        '<div style="font-family:system-ui,sans-serif;font-size:13px;line-height:1.4">'
        f'<div style="font-weight:600">{heading}</div><div style="opacity:.7">{made}</div>'
        f'<div style="display:flex;flex-wrap:wrap;gap:10px;margin-top:8px">{"".join(tiles)}</div>{more}</div>'
    )


def _tile(uri: str, label: str, detail: str, strong: bool) -> str:
    name = escape(clean(label))
    weight = "600" if strong else "400;opacity:.75"
    return (
        '<div style="width:132px;overflow-wrap:anywhere">'
        f'<img src="{uri}" alt="{name}" style="display:block;width:132px;border-radius:5px;margin:0 0 3px">'
        f'<span style="font-weight:{weight}">{name}</span> <span style="opacity:.7">{escape(detail)}</span></div>'
    )
