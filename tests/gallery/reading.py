"""Galleries read back: elements of their pages, and their cards."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

from tests.render.page import Page

DANGEROUS = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def cards(root: Path) -> list[dict]:
    """What the filters know."""
    text = (root / "cards.js").read_text(encoding="utf-8")
    return json.loads(text.removeprefix("const CARDS = ").rstrip().removesuffix(";"))


def card_pages(root: Path) -> list[Path]:
    """The pages of cards, found by following their links, as somebody without JavaScript does."""
    found, name = [], "index.html"
    while name:
        found.append(root / name)
        nexts = [a["href"] for a in read(root / name).of("a") if a.get("rel") == "next"]
        assert len(nexts) <= 1
        name = nexts[0] if nexts else ""
        assert len(found) < 1000
    return found


def shown(path: Path) -> list[str]:
    """Which picture each card of a page shows."""
    html = path.read_text(encoding="utf-8").partition("<template")[0]
    return re.findall(r'<article class="card[^"]*">\s*<a href="[^"]+"><span class="view"><img src="([^"]+)"', html)


class Links(HTMLParser):
    """Every address that a page names."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.ids: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag, attrs) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value is not None:
                self.addresses.append(value)
            if name == "id" and value:
                self.ids.add(value)


def broken(root: Path) -> list[str]:
    """Addresses that lead nowhere, in all pages of a gallery."""
    pages = {path: Links(path.read_text(encoding="utf-8")) for path in root.rglob("*.html")}
    found = []
    for path, links in pages.items():
        for address in links.addresses:
            if address.startswith("data:"):
                continue
            name, _, fragment = address.partition("#")
            target = (path.parent / name).resolve() if name else path.resolve()
            inside = target.is_relative_to(root.resolve()) and target.is_file()
            ids = pages[root / target.relative_to(root.resolve())].ids if inside and fragment else {fragment}
            if not inside or fragment not in ids:
                found.append(f"{path.name}: {address}")
    return found
