"""What axe-core finds against a page: https://github.com/dequelabs/axe-core."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

GRAVE = ("moderate", "serious", "critical")
_RUN = """async (options) => (await axe.run(document, options)).violations.map(({id, impact, help, nodes}) =>
    ({id, impact, help, nodes: nodes.map(({target, failureSummary}) => `${target.join(' ')}: ${failureSummary}`)}))"""


@cache
def _axe() -> str:
    return resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


def violations(
    page: Any, impacts: Sequence[str] = GRAVE, *, without: Sequence[str] = (), only: Sequence[str] = ()
) -> list[str]:
    """One line for each rule that a page breaks, with the first places where.

    Args:
        page: a page, or a frame of one, of playwright's synchronous API. Frames inside are not looked into: each is
            asked for itself.
        impacts: what is told; axe-core knows "minor", "moderate", "serious" and "critical".
        without: rules that are left out.
        only: rules that alone are tried; all by default, with those of WCAG 2.2 that axe-core leaves out unless asked.
    """
    if not page.evaluate("'axe' in window"):
        page.evaluate(f"() => {{ {_axe()} }}")
    # Preloading would fetch style sheets again, which pages from files do not allow.
    options: dict[str, Any] = {"resultTypes": ["violations"], "iframes": False, "preload": False}
    if only:
        options["runOnly"] = list(only)
    else:
        options["rules"] = {"target-size": {"enabled": True}} | {rule: {"enabled": False} for rule in without}
    found = page.evaluate(_RUN, options)
    return [
        f"{broken['impact']} {broken['id']} ({broken['help']}), {len(broken['nodes'])} times: "
        + " | ".join(broken["nodes"][:3])
        for broken in found
        if broken["impact"] in impacts
    ]
