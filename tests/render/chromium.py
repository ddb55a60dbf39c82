"""A page in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def quiet_page(browser: Any, path: Path, height: int) -> Iterator[Any]:
    """A page of the file, 1280 pixels wide, that says nothing on the console, raises nothing and asks for nothing."""
    opened = browser.new_page(viewport={"width": 1280, "height": height})
    problems: list[str] = []
    opened.on("console", lambda message: problems.append(message.text))
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("request", lambda request: problems.append(request.url) if request.url.startswith("http") else None)
    opened.goto(path.as_uri())
    yield opened
    opened.close()
    assert problems == []
