"""A page in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def quiet_page(browser: Any, path: Path, height: int, width: int = 1280, **context: Any) -> Iterator[Any]:
    """A page of the file that says nothing on the console, raises nothing and asks for nothing; ``context`` goes to
    playwright (``color_scheme``, ``has_touch`` and so on)."""
    around = browser.new_context(viewport={"width": width, "height": height}, **context)
    opened = around.new_page()
    problems: list[str] = []
    opened.on("console", lambda message: problems.append(message.text))
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("request", lambda request: problems.append(request.url) if request.url.startswith("http") else None)
    opened.goto(path.as_uri())
    yield opened
    around.close()
    assert problems == []
