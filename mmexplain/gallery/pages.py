"""Pages of a gallery: what all of them share, and how a long list becomes several."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from importlib import resources
from statistics import median
from typing import TYPE_CHECKING, Any

from mmexplain.gallery.folder import FIRST, Folder
from mmexplain.render.assets import asset as shared_asset
from mmexplain.render.text import clean

if TYPE_CHECKING:
    from jinja2 import Environment

    from mmexplain.jobs.store import Store

POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; script-src 'self'; base-uri 'none'; "
    "form-action 'none'"
)
"""What a page may load: what lies beside it, and nothing that a caption or a file name may hold."""

TITLES = {
    "cards": ("Gallery", FIRST),
    "where": ("Where it looks", "where.html"),
    "statistics": ("Statistics", "statistics.html"),
    "compare": ("Compare", "compare.html"),
    "errors": ("Errors", "errors.html"),
}


def asset(name: str) -> str:
    """The text of one of the gallery's own files."""
    return resources.files("mmexplain.gallery").joinpath(name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Jinja as all pages use it: whatever is filled in is escaped, and a name that is missing is an error."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    return Environment(
        loader=FunctionLoader(asset), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


class Site:
    """The pages of one gallery.

    Args:
        folder: where they go.
        store: what they are of.
        tabs: which of :data:`TITLES` there are, each with a number that is shown beside it, or None.
        where: what was asked for, for people.
        sort: in what order.
    """

    def __init__(
        self, folder: Folder, store: Store, tabs: Mapping[str, int | None], where: str | None, sort: str | None
    ) -> None:
        self.folder = folder
        self._shared = {
            "policy": POLICY,
            "run": about(store),
            "where": None if where is None else clean(where),
            "sort": None if sort is None else clean(sort),
            "tabs": [
                {
                    "name": name,
                    "title": TITLES[name][0],
                    "href": TITLES[name][1],
                    "count": None if n is None else f"{n:,}",
                }
                for name, n in tabs.items()
            ],
        }

    def assets(self, cards: Sequence[Mapping[str, Any]]) -> None:
        """Style, script, and all cards for the script."""
        style = "\n".join([shared_asset("report.css"), asset("gallery.css")])
        self.folder.write("gallery.css", style)
        self.folder.write("gallery.js", asset("gallery.js"))
        self.folder.write("cards.js", script(cards))

    def page(self, name: str, template: str, heading: str, current: str, **told: Any) -> None:
        """Write one page.

        Args:
            name: of its file, perhaps in one of the gallery's folders.
            template: that it is made of.
            heading: its title.
            current: the tab that it belongs to.
            told: what the template needs besides.
        """
        up = "../" * name.count("/")
        shared = {**self._shared, "heading": heading, "current": current, "up": up}
        self.folder.write(name, environment().get_template(template).render(**shared, **told))


def about(store: Store) -> dict[str, str]:
    """What a run was, for people."""
    job = store.job
    return {
        "store": clean(store.root),
        "task": clean(job.task),
        "model": clean(job.model),
        "inputs": plural(job.count, "input"),
    }


def script(cards: Sequence[Mapping[str, Any]]) -> str:
    """The cards as a script that defines ``CARDS``: a file page can load it where it could not fetch JSON."""
    listed = ",\n".join(json.dumps(card, ensure_ascii=True, allow_nan=False) for card in cards)
    # In JSON these stand in texts only. Nobody should put the file inside a page, and somebody will.
    return f"const CARDS = [\n{listed}\n];\n".replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def names(stem: str, number: int, first: str | None = None) -> list[str]:
    """File names of so many pages of one list."""
    return [first or f"{stem}.html", *(f"{stem}-{place}.html" for place in range(2, number + 1))]


def ratio(pictures: Iterable[Mapping[str, Any]]) -> float:
    """Width by height of the frame that most pictures fit into well."""
    found = [picture["width"] / picture["height"] for picture in pictures]
    return round(min(16 / 9, max(3 / 4, median(found))), 3) if found else 1.0


def counted(values: Iterable[str]) -> list[tuple[str, str]]:
    """Different values with how often they occur, the commonest first."""
    return [(value, f"{n:,}") for value, n in sorted(Counter(values).items(), key=lambda found: (-found[1], found[0]))]


def plural(number: int, what: str) -> str:
    """``"1 input"``, ``"2,000 inputs"``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def some_of(shown: int, total: int, what: str) -> str:
    """``"500 of 12,345 maps"``, or ``"20 maps"`` where all are shown."""
    return plural(total, what) if shown == total else f"{shown:,} of {plural(total, what)}"
