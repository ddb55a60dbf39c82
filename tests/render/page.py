"""Reading a report back: its elements, its data, its pictures."""

from __future__ import annotations

import base64
import io
import json
from html.parser import HTMLParser

from PIL import Image


class Page(HTMLParser):
    """Every element with its attributes, and the text of scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.scripts: list[tuple[dict[str, str], str]] = []
        self._inside = False
        self.feed(html)

    def handle_starttag(self, tag, attrs) -> None:
        found = {name: value or "" for name, value in attrs}
        self.elements.append((tag, found))
        self._inside = tag == "script"
        if self._inside:
            self.scripts.append((found, ""))

    def handle_endtag(self, tag) -> None:
        self._inside = False

    def handle_data(self, data) -> None:
        if self._inside:
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def with_class(self, name: str) -> list[dict[str, str]]:
        return [attributes for _, attributes in self.elements if name in attributes.get("class", "").split()]

    def data(self) -> list[dict]:
        return [json.loads(text) for attributes, text in self.scripts if "data" in attributes.get("class", "")]

    def images(self) -> dict[str, str]:
        """Address of each stored picture by its id."""
        return {image["id"]: image["href"] for image in self.of("image")}


def decode(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))
