"""The pages of two runs held against each other: pairs of maps, those that differ most first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mmexplain.explanation import MapKey
from mmexplain.gallery.cards import Place, page_name, place_of, sentence
from mmexplain.gallery.compare import Unpaired, summary
from mmexplain.gallery.pages import Site, about, names, plural, ratio, some_of
from mmexplain.jobs.store import Store
from mmexplain.render.text import clean, percent

MOST_PAIRS = 120
"""Of each order, unless fewer cards are asked for."""

MOST_IDS = 1_000

ORDERS = {
    "maps": ("Maps differ most", "compare"),
    "probability": ("Probability differs most", "compare-probability"),
    "peaks": ("Peaks lie furthest apart", "compare-peaks"),
}
HEADING = "A against B"


def greatest(compared: pa.Table, most: int) -> dict[str, list[dict[str, Any]]]:
    """The pairs that differ most in each respect; those of which it is not known are left out."""
    keys = {
        "maps": compared.column("correlation"),
        "probability": pc.negate(pc.abs(compared.column("change"))),
        "peaks": pc.negate(compared.column("distance")),
    }
    found = {}
    for name, key in keys.items():
        order = pc.sort_indices(pa.table({"key": key}), [("key", "ascending")])
        known = len(key) - key.null_count  # those that are null come last
        found[name] = compared.take(order[: min(most, known)]).to_pylist()
    return found


def write_compare_pages(
    site: Site,
    other: Store,
    compared: pa.Table,
    listed: Mapping[str, Sequence[Mapping[str, Any]]],
    pictures: tuple[Mapping[Place, Mapping[str, Any]], Mapping[Place, Mapping[str, Any]]],
    words: tuple[Mapping[Place, Mapping[str, Any]], Mapping[Place, Mapping[str, Any]]],
    left: Unpaired,
    per_page: int,
) -> int:
    """Write them.

    Args:
        site: that they belong to.
        other: the store that is B.
        compared: all pairs.
        listed: those of each order that are shown.
        pictures: of A's and of B's rows, as :func:`mmexplain.gallery.cards.draw` tells.
        words: the rows themselves.
        left: what has no partner.
        per_page: pairs of one page.

    Returns:
        How many pages.
    """
    several = len(set(zip(*(compared.column(name).to_pylist() for name in ("layer", "method")), strict=True))) > 1
    facts = _facts(compared)
    frame = ratio(pictures[0].values())
    written = 0
    for order, (title, stem) in ORDERS.items():
        pairs = listed[order]
        files = names(stem, max(1, -(-len(pairs) // per_page)))
        for number in range(len(files), 0, -1):
            part = pairs[(number - 1) * per_page : number * per_page]
            site.page(
                files[number - 1],
                "compare.html.j2",
                HEADING,
                "compare",
                number=number,
                pages=files,
                order=order,
                orders=[(name, told, f"{file}.html") for name, (told, file) in ORDERS.items()],
                shown=f"{title}: {some_of(len(pairs), compared.num_rows, 'pair')}",
                facts=facts,
                other=about(other),
                left=_left(left),
                only=bool(left.inputs or left.other_inputs),
                pairs=[_pair(row, pictures, words) for row in part],
                frame=frame,
                several=several,
            )
            written += 1
    if left.inputs or left.other_inputs:
        sides = [_side("Only in A", left.inputs), _side("Only in B", left.other_inputs)]
        site.page("unpaired.html", "unpaired.html.j2", "Inputs in one run only", "compare", sides=sides)
    return written


def _facts(compared: pa.Table) -> list[dict[str, str]]:
    means = summary(compared)
    return [
        {"name": "pairs", "told": f"{compared.num_rows:,}"},
        {"name": "probability, A − B", "told": means["change"].told(sign="+")},
        {"name": "its magnitude", "told": means["absolute_change"].told()},
        {"name": "rank correlation of the maps", "told": means["correlation"].told()},
        {"name": "distance of the peaks, % of the diagonal", "told": means["distance"].told(100, 1)},
    ]


def _pair(
    row: Mapping[str, Any],
    pictures: tuple[Mapping[Place, Mapping[str, Any]], Mapping[Place, Mapping[str, Any]]],
    words: tuple[Mapping[Place, Mapping[str, Any]], Mapping[Place, Mapping[str, Any]]],
) -> dict[str, Any]:
    mine, others = place_of(row), place_of(row, "other_")
    drawn = pictures[0][mine]
    texts = [sentence(words[0][mine]), sentence(words[1][others])]
    same = texts[0] == texts[1]
    return {
        "id": clean(row["id"]),
        "label": clean(row["label"]) or "(empty)",
        "made": clean(MapKey(row["layer"], row["method"]).made),
        "page": f"{page_name(row['input'])}#m-{drawn['key']}-{row['target']}",
        "mine": {**drawn, "picture": f"cards/{drawn['name']}"},
        "other": {**pictures[1][others], "picture": f"others/{pictures[1][others]['name']}"},
        "percent": percent(row["probability"]),
        "other_percent": percent(row["other_probability"]),
        "facts": [
            ("correlation", _told(row["correlation"], "{:.2f}")),
            ("probability, A − B", _told(row["change"], "{:+.3f}")),
            ("peaks apart", _told(row["distance"], "{:.0%}")),
        ],
        "texts": [(side, text) for side, text in zip(("A", "B"), texts, strict=True) if text[0] or text[1]][:2]
        if not same
        else [("", texts[0])] * bool(texts[0][0] or texts[0][1]),
    }


def _left(left: Unpaired) -> str:
    targets = f"Without a partner: {plural(left.targets, 'map')} of A"
    targets += f", {left.other_targets:,} of B" if left.other_targets else ""
    only = f"; inputs explained in A alone: {len(left.inputs):,}, in B alone: {len(left.other_inputs):,}"
    return f"{targets}{only}."


def _side(title: str, ids: Sequence[str]) -> dict[str, Any]:
    return {
        "title": f"{title}: {plural(len(ids), 'input')}",
        "ids": [clean(name) for name in ids[:MOST_IDS]],
        "more": f"{len(ids) - MOST_IDS:,}" if len(ids) > MOST_IDS else "",
    }


def _told(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value).replace("-", "−")
