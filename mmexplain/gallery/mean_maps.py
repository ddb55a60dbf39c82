"""The page of mean maps: where the model looks for each label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from mmexplain.explanation import MapKey
from mmexplain.gallery.aggregate import Aggregate
from mmexplain.gallery.pages import Site
from mmexplain.geometry import Geometry
from mmexplain.render.encode import data_uri
from mmexplain.render.heat import Heat
from mmexplain.render.overlay import blend
from mmexplain.render.text import clean

SIDE = 220
"""Of a mean map, pixels: as large as it is shown."""

_GROUND = (139, 139, 136)


def write_mean_page(site: Site, means: Sequence[Aggregate], shown: str) -> None:
    """Write the page.

    Args:
        site: that it belongs to.
        means: what is shown, in this order.
        shown: which labels these are, for people.
    """
    several = len({(mean.layer, mean.method) for mean in means}) > 1
    site.page(
        "where.html",
        "aggregate.html.j2",
        "Where the model looks, on average",
        "where",
        means=[_card(mean) for mean in means],
        several=several,
        shown=shown,
    )


def drawn(mean: Aggregate) -> Image.Image:
    """A mean map as a square picture, coloured as maps are everywhere, over even grey."""
    values = torch.from_numpy(mean.mean)
    known = torch.where(values.isnan(), 0.0, values)[None]
    # Every pixel takes what lies nearest, cells that were seen and those that were not alike.
    spread = Geometry.identity(SIDE, SIDE).to_original(known)[0].double().numpy()
    unseen = np.repeat(np.repeat(np.isnan(mean.mean), SIDE // len(mean.mean) + 1, 0), SIDE // len(mean.mean) + 1, 1)
    places = (np.arange(SIDE) * unseen.shape[0] // SIDE)[:, None], (np.arange(SIDE) * unseen.shape[0] // SIDE)[None]
    seen = ~unseen[places]
    largest = float(spread[seen].max()) if seen.any() else 0.0
    unit = np.where(seen, spread / largest if largest > 0 else 0.0, 0.0).astype(np.float32)
    return blend(Image.new("RGB", (SIDE, SIDE), _GROUND), Heat("evidence", unit, seen), alpha=1.0)


def _card(mean: Aggregate) -> dict[str, Any]:
    peak = None if mean.peak is None else [round(100 * share, 2) for share in mean.peak]
    thirds = [
        [{"share": round(share, 3), "told": f"{100 * share:.0f}"} for share in row] for row in mean.thirds.tolist()
    ]
    return {
        "label": clean(mean.label) or "(empty)",
        "made": clean(MapKey(mean.layer, mean.method).made),
        "picture": data_uri(drawn(mean), "jpeg", quality=90),
        "side": SIDE,
        "n": f"{mean.n:,}",
        "empty": f"{mean.empty:,}" if mean.empty else "",
        "note": None if mean.n else "no evidence in any map",
        "strongest": f"{np.nanmax(mean.mean):.1f} × even" if mean.n else "–",
        "entropy": "–" if math.isnan(mean.entropy) else f"{mean.entropy:.3f}",
        "peak": peak,
        "peak_told": "–" if peak is None else f"{peak[0]:.0f} %, {peak[1]:.0f} %",
        "thirds": thirds if peak is not None else None,
    }
