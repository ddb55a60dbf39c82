"""What pages of the reference hold that is written elsewhere: sections of the README, registries, the commands' help.

A page asks for it on a line of its own: ``<!-- README: Heading -->`` or ``<!-- generated: methods -->``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from mmexplain.cli import cli
from mmexplain.evaluate.registry import LAYOUTS, PROTOCOLS
from mmexplain.jobs.schema import COLUMNS
from mmexplain.methods.registry import DEFAULT_METHOD, METHODS
from mmexplain.methods.text import TEXT_METHODS

DOCS = Path(__file__).parent
README = DOCS.parent / "README.md"
RESULTS = DOCS.parent / "benchmarks" / "results"

WIDTH = 86
"""Columns of the commands' help: what fits beside the navigation."""

_ASKED = re.compile(r"^<!-- (README|generated): (.+) -->$", re.MULTILINE)
_SECTION = re.compile(r"^## (.+)\n((?:(?!^## ).*\n)*)", re.MULTILINE)
_LINK = re.compile(r"(!?)\[([^\[\]]+)\]\((?![a-z]+:|#)([^()\s]+)\)")


def filled(source: str) -> tuple[str, list[Path]]:
    """A page with everything put in that it asks for, and the files that came from.

    Raises:
        KeyError: there is no such section, or no such generator.
    """
    asked = _ASKED.findall(source)
    makers: dict[str, Callable[[str], str]] = {"README": readme_section, "generated": lambda name: GENERATED[name]()}
    text = _ASKED.sub(lambda found: makers[found[1]](found[2]), source)
    return text, [README] if any(kind == "README" for kind, _ in asked) else []


def readme_section(heading: str) -> str:
    """The text below a heading of the README; ``introduction`` is what stands before the first.

    Raises:
        KeyError: there is no such heading.
    """
    text = README.read_text("utf-8")
    sections = dict(_SECTION.findall(text))
    sections["introduction"] = text.partition("\n## ")[0].partition("\n")[2]
    if heading not in sections:
        raise KeyError(f"README.md has no section {heading!r}; there are: {', '.join(sections)}")
    return _LINK.sub(_moved, sections[heading].strip())


def _moved(link: re.Match[str]) -> str:
    """Images are shown from where they lie, pages of the reference linked to; other files of the repository are offered
    for download."""
    image, text, target = link.groups()
    if image:
        return f"![{text}](../{target})"
    if re.fullmatch(r"docs/[^/]+\.md", target):
        return f"[{text}]({target.removeprefix('docs/')})"
    return f"{{download}}`{text.strip('`')} <../{target}>`"


def methods() -> str:
    """Every method: what it shows and where it was published; what it needs, costs and takes."""
    rows = []
    for method in METHODS.values():
        function = method.function.func if isinstance(method.function, partial) else method.function
        name = f"{{py:func}}`{method.name} <mmexplain.methods.{function.__name__}>`" if function else f"`{method.name}`"
        default = " (default)" if method.name == DEFAULT_METHOD else ""
        parameters = ", ".join(f"{key}={value!r}" for key, value in method.parameters.items())
        lines = [f"{_sentence(method.summary)} {method.paper}.", f"Needs {method.needs}; {method.cost}."]
        rows.append((name + default, lines + ([f"Parameters: `{parameters}`."] if parameters else [])))
    return _definitions(rows)


def text_methods() -> str:
    """Every method for the words that were read."""
    return _definitions(
        (
            f"`{method.name}`",
            [
                _sentence(method.summary),
                f"{method.formula}, where t is a word and d an entry of its embedding e.",
                f"Passes of the part behind the photo's encoder: {method.cost}.",
                f"{method.paper}.",
            ],
        )
        for method in TEXT_METHODS.values()
    )


def protocols() -> str:
    """Every protocol: its class, with the options that it takes."""
    parts = []
    for name, known in PROTOCOLS.items():
        parts += [
            f"### `{name}`",
            "",
            f"{_sentence(known.what)} Data: {LAYOUTS[known.data]}.",
            "",
            "```{eval-rst}",
            f".. autoclass:: {known.where.replace(':', '.')}",
            "```",
            "",
        ]
    return "\n".join(parts)


def columns() -> str:
    """The columns of a store."""
    lines = ["| column | type | what it holds |", "| --- | --- | --- |"]
    for name, (kind, text) in COLUMNS.items():
        shown = (
            re.sub(r"dictionary<values=(\w+).*", r"\1", str(kind))
            .replace("element: ", "")
            .replace("halffloat", "float16")
        )
        lines.append(f"| `{name}` | {shown} | {_sentence(text)} |")
    return "\n".join(lines)


def results(name: str) -> str:
    """What a benchmark measured, below a heading of the page."""
    _, _, text = (RESULTS / f"{name}.md").read_text(encoding="utf-8").partition("\n")
    return re.sub(r"^## ", "### ", text.strip(), flags=re.MULTILINE)


def commands() -> str:
    """The help of every verb, as the terminal shows it."""
    return "\n".join(_help(cli, "mmexplain", None))


def _help(command: click.Command, name: str, parent: click.Context | None) -> list[str]:
    settings = {**command.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    context = click.Context(command, info_name=name, parent=parent, **settings)
    lines = [f"## {context.command_path}", "", "```text", command.get_help(context), "```", ""]
    if isinstance(command, click.Group):
        for verb, sub in command.commands.items():
            lines += _help(sub, verb, context)
    return lines


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _definitions(rows: Any) -> str:
    lines = []
    for term, details in rows:
        lines += [term, *(f"{':' if not number else ' '} {line}  " for number, line in enumerate(details)), ""]
    return "\n".join(lines)


GENERATED: dict[str, Callable[[], str]] = {
    "methods": methods,
    "text methods": text_methods,
    "protocols": protocols,
    "commands": commands,
    "columns of a store": columns,
    "results of scale": partial(results, "scale"),
    "results of projection": partial(results, "projection"),
}
"""What pages may ask for."""
