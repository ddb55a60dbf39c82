"""The report: one self-contained HTML file for one or many explanations. It needs no network and no server."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mmexplain.errors import InputError
from mmexplain.explanation import Explanation
from mmexplain.render.assets import asset, environment, policy
from mmexplain.render.colors import DIVERGING, SEQUENTIAL, css_gradient
from mmexplain.render.encode import TABLES, exchangeable
from mmexplain.render.text import clean
from mmexplain.render.view import view
from mmexplain.render.whole import whole
from mmexplain.targets import Target

TITLES = {
    "caption": "Where the model looked, word by word",
    "vqa": "Where the model looked for each answer",
    "action": "When and where the model looked",
}
GENERAL = "Where the model looked"
STYLES = ("report.css", "words.css", "player.css")
SCRIPTS = ("embed.js", "colours.js", "words.js", "player.js", "report.js")


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


def report_html(
    explanations: Sequence[Explanation], title: str | None = None, chosen: int | str | Target | None = None
) -> str:
    """The report as one HTML string.

    Args:
        explanations: what is shown, one section each.
        title: heading; by default it says what was explained.
        chosen: the target of the first of them that is shown at the start; by default one that is about something.

    Raises:
        InputError: no explanations.
        TargetError: no such target.
    """
    if not explanations:
        raise InputError("a report needs at least one explanation")
    first = None if chosen is None else explanations[0].find(chosen)
    views = [view(explanation, place, None if place else first) for place, explanation in enumerate(explanations)]
    tables = json.dumps([exchangeable(name) for name in TABLES])
    script = "\n".join([*map(asset, SCRIPTS[:-1]), f"const TABLES = {tables};", asset(SCRIPTS[-1])])
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            title=clean(title) if title else _title(explanations),
            explanations=views,
            style="\n".join(map(asset, STYLES)),
            script=script,
            policy=policy(script),
            legends={"evidence": css_gradient(SEQUENTIAL, False), "signed": css_gradient(DIVERGING, True)},
        )
    )


def _title(explanations: Sequence[Explanation]) -> str:
    tasks = {explanation.task for explanation in explanations}
    return TITLES.get(tasks.pop(), GENERAL) if len(tasks) == 1 else GENERAL
