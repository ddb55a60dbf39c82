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
from mmexplain.render.whole import whole

if TYPE_CHECKING:
    from jinja2 import Template


TITLES = {
    "caption": "Where the model looked, word by word",
    "vqa": "Where the model looked for each answer",
    "action": "When and where the model looked",
}
GENERAL = "Where the model looked"
STYLES = ("report.css", "words.css", "player.css")
SCRIPTS = ("words.js", "player.js", "report.js")


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
    with whole(path) as partial:
        partial.write_text(page, encoding="utf-8")
    return path


def report_html(explanations: Sequence[Explanation], title: str | None = None) -> str:
    """The report as one HTML string.

    Raises:
        InputError: no explanations.
    """
    if not explanations:
        raise InputError("a report needs at least one explanation")
    views = [view(explanation, place) for place, explanation in enumerate(explanations)]
    script = "\n".join(_asset(name) for name in SCRIPTS)
    return _template().render(
        title=clean(title) if title else _title(explanations),
        explanations=views,
        style="\n".join(_asset(name) for name in STYLES),
        script=script,
        # The browser runs this script and no other, whatever a caption or a file name may hold.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        legends={"evidence": css_gradient(SEQUENTIAL, False), "signed": css_gradient(DIVERGING, True)},
    )


def _title(explanations: Sequence[Explanation]) -> str:
    tasks = {explanation.task for explanation in explanations}
    return TITLES.get(tasks.pop(), GENERAL) if len(tasks) == 1 else GENERAL


def _asset(name: str) -> str:
    return resources.files("mmexplain.render").joinpath(name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _template() -> Template:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_asset),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")
