"""The report: one self-contained HTML file for one or many explanations. It needs no network and no server."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from mmexplain.errors import InputError
from mmexplain.explanation import Explanation
from mmexplain.render.colors import DIVERGING, SEQUENTIAL, css_gradient
from mmexplain.render.text import clean
from mmexplain.render.view import view

if TYPE_CHECKING:
    from jinja2 import Template


def save_report(explanations: Sequence[Explanation], path: str | Path, title: str | None = None) -> Path:
    """Write the report to ``path``.

    Args:
        explanations: what is shown, one section each.
        path: an ``.html`` file in a folder that exists.
        title: heading; by default it says what was explained.

    Returns:
        The path written.

    Raises:
        InputError: no explanations, or a path that cannot be written.
    """
    path = Path(path)
    page = report_html(explanations, title)
    partial = path.with_name(path.name + ".partial")
    try:
        # Written beside and renamed, so that an interrupted save leaves no half page under the final name.
        partial.write_text(page, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {str(path)!r}: {error.strerror or error}") from None
    return path


def report_html(explanations: Sequence[Explanation], title: str | None = None) -> str:
    """The report as one HTML string.

    Raises:
        InputError: no explanations.
    """
    if not explanations:
        raise InputError("a report needs at least one explanation")
    views = [view(explanation, place) for place, explanation in enumerate(explanations)]
    script = _asset("report.js")
    return _template().render(
        title=clean(title) if title else _title(explanations),
        explanations=views,
        style=_asset("report.css"),
        script=script,
        # The browser runs this script and no other, whatever a caption or a file name may hold.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        legends={"evidence": css_gradient(SEQUENTIAL, False), "signed": css_gradient(DIVERGING, True)},
    )


def _title(explanations: Sequence[Explanation]) -> str:
    tasks = {explanation.task for explanation in explanations}
    if tasks == {"caption"}:
        return "Where the model looked, word by word"
    return "Where the model looked"


def _asset(name: str) -> str:
    return resources.files("mmexplain.render").joinpath(name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_asset("report.html.j2"))
