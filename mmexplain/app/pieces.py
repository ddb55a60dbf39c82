"""Small pieces of HTML. Whatever people or models wrote is escaped here, and nowhere else."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from mmexplain.app.changes import Change
from mmexplain.app.desk import Alternative
from mmexplain.explanation import Explanation
from mmexplain.geometry import fit
from mmexplain.render.encode import data_uri
from mmexplain.render.text import clean, percent

TILE = 180
"""Longer side of a small map, pixels."""


def framed(page: str, title: str) -> str:
    """A whole page within the app's: it runs its own script, and reaches nothing outside."""
    return (
        f'<iframe class="mm-view" title="{escape(clean(title))}" sandbox="allow-scripts" scrolling="no" '
        f'srcdoc="{escape(page)}"></iframe>'
    )


def problem(text: str) -> str:
    """What cannot be done, told where it was asked for."""
    return f'<p class="mm-problem" role="alert">{escape(clean(text))}</p>'


def note(text: str) -> str:
    """What is going on."""
    return f'<p class="mm-note" role="status">{escape(clean(text))}</p>'


def code(python: str, command: str) -> str:
    """The code that asks the same, to be copied."""
    parts = [
        f'<div class="mm-code"><b>{name}</b> <button type="button" class="mm-copy">Copy as {name}</button>'
        f'<pre tabindex="0" role="region" aria-label="{name}">{escape(text)}</pre></div>'
        for name, text in (("Python", python), ("command line", command))
    ]
    return f"<details><summary>The same in Python, or on the command line</summary>{''.join(parts)}</details>"


def changed(rows: Sequence[Change], before: float | None, after: float | None) -> str:
    """Two captions side by side, the changed words first, with what their change did to the others.

    Args:
        rows: word by word.
        before: log-probability of the caption that was.
        after: that of the new one.
    """
    lines = []
    for row in sorted(rows, key=lambda row: row.before == row.after):
        same = row.before == row.after
        lines.append(
            f'<tr class="{"same" if same else "new"}"><td>{_word(row.before)}</td>'
            f'<td class="n">{_share(row.p_before)}</td>'
            f'<td>{_word(row.after)}</td><td class="n">{_share(row.p_after)}</td>'
            f'<td class="n">{"–" if row.alike is None else f"{row.alike:.2f}"}</td></tr>'
        )
    total = "" if before is None or after is None else _total(before, after)
    return (
        f'<div class="mm-table"><h3>What the change changed</h3>{total}'
        '<div class="mm-scroll" tabindex="0" role="region" aria-label="Word by word"><table><thead><tr>'
        '<th scope="col">before</th><th scope="col" class="n">probability</th>'
        '<th scope="col">after</th><th scope="col" class="n">probability</th>'
        f'<th scope="col" class="n">maps alike</th></tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
        '<p class="mm-note">Probability of a word given the words before it. Maps alike: rank correlation of the two '
        "maps, 1 for the same order of places.</p></div>"
    )


def alternatives(found: Sequence[Alternative], count: int) -> str:
    """Captions that the model considered, side by side, each with its words' maps; ``count`` were asked for."""
    columns = [
        f'<section class="mm-beam"><h3><bdi>{escape(clean(one.text))}</bdi></h3>'
        f'<p class="mm-note">log-probability per word {one.per_word:.2f}</p>'
        f'<div class="mm-words">{"".join(_tiles(one.explanation))}</div></section>'
        for one in found
    ]
    fewer = note(f"the search ended with {len(found)} of {count} captions") if len(found) < count else ""
    return f'{fewer}<div class="mm-beams">{"".join(columns)}</div>'


def _tiles(explanation: Explanation) -> Iterator[str]:
    """The map of each word that is about something."""
    size = fit(explanation.geometry.original, TILE)
    for number, target in enumerate(explanation.targets):
        if target.content:
            uri = data_uri(explanation.overlay(number, size=size), "jpeg", quality=82)
            name = escape(clean(target.label))
            known = None if explanation.probabilities is None else float(explanation.probabilities[number])
            told = f"{name} <span>{percent(known)}</span>"
            yield f'<figure><img src="{uri}" alt=""><figcaption>{told}</figcaption></figure>'


def _total(before: float, after: float) -> str:
    difference = after - before
    if not math.isfinite(difference):
        return ""
    times = f"{math.exp(abs(difference)):,.1f} times" if abs(difference) < 20 else f"e^{abs(difference):.0f} times"
    told = f"{times} {'likelier' if difference > 0 else 'less likely'} than before"
    told = "as likely as before" if abs(difference) < 0.005 else told
    return f"<p>Log-probability of the words {before:.2f} → {after:.2f}: together they are {told}.</p>"


def _word(word: str | None) -> str:
    return "–" if word is None else f"<bdi>{escape(clean(word))}</bdi>"


def _share(probability: float | None) -> str:
    return "–" if probability is None else percent(probability)
