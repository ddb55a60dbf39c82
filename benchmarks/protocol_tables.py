"""The tables of RESULTS.md: methods by protocol, the appendix's ablations, and what is shown of each result."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from common import table
from protocol_runs import ABLATIONS, EARLIER, RESNET50, RUNS, Run

from mmexplain.evaluate.intervals import Mean
from mmexplain.evaluate.result import Line, Result

Found = Mapping[tuple[str, str], Result]
"""(protocol, model) → its result."""


@dataclass(frozen=True)
class Column:
    """A column of the table of methods by protocol.

    Attributes:
        title: its head.
        protocol, metric: where the number is found.
        labels: of the line, besides the method; what is not told is not looked at.
    """

    title: str
    protocol: str
    metric: str
    labels: Mapping[str, str]

    def of(self, found: Found, model: str, method: str) -> Mean | None:
        """The number for a method; None where it was not measured."""
        result = found.get((self.protocol, model))
        lines = [] if result is None else lines_of(result, {"method": method, **self.labels})
        return lines[0].means.get(self.metric) if lines else None

    def percent(self, found: Found, model: str) -> bool:
        """Whether the number is a share."""
        return any(m.percent for m in found[self.protocol, model].metrics if m.name == self.metric)


COLUMNS = (
    Column("words on boxes ↑", "grounding", "pointing", {"phrase": "all"}),
    Column("own words on objects ↑", "generated-grounding", "pointing", {"class": "all"}),
    Column("answers on boxes ↑", "answer-grounding", "pointing", {"question": "all"}),
    Column("classes on objects ↑", "pointing", "hit", {"subset": "all"}),
    Column("difficult ones ↑", "pointing", "hit", {"subset": "difficult"}),
    Column("box error, top 1 ↓", "localisation", "error_top1", {}),
    Column("Average Drop ↓", "faithfulness", "drop", {"against": ""}),
    Column("Increase ↑", "faithfulness", "increase", {"against": ""}),
    Column("insertion ↑", "faithfulness", "insertion", {"against": ""}),
    Column("deletion ↓", "faithfulness", "deletion", {"against": ""}),
    Column("occlusion ρ ↑", "faithfulness", "correlation", {"against": ""}),
    Column("eye tracking ρ ↑", "human-attention", "spearman", {"human": "eye"}),
)


def lines_of(result: Result, labels: Mapping[str, str]) -> list[Line]:
    """The lines with these labels."""
    return [line for line in result.lines if all(line.labels.get(name) == text for name, text in labels.items())]


def told(found: Mean | None, percent: bool) -> str:
    """A mean and its interval, short enough for a wide table."""
    if found is None:
        return "–"
    return found.told(100, 1) if percent else found.told(digits=2)


def overview(found: Found) -> str:
    """One table a model: methods by protocol."""
    parts = []
    tagged = {planned.title for planned in RUNS if planned.tag}
    for model in dict.fromkeys(model for _, model in found if model not in tagged):
        columns = [column for column in COLUMNS if (column.protocol, model) in found]
        methods = dict.fromkeys(
            line.labels["method"]
            for column in columns
            for line in found[column.protocol, model].lines
            if line.labels["method"] not in ABLATIONS
        )
        rows = []
        for method in methods:
            means = [column.of(found, model, method) for column in columns]
            if any(mean is not None and not math.isnan(mean.value) for mean in means):
                cells = zip(means, columns, strict=True)
                rows.append([method, *(told(mean, column.percent(found, model)) for mean, column in cells)])
        kept = [n for n in range(1, len(columns) + 1) if any(row[n] != "–" for row in rows)]
        if kept:
            heads = ["method", *(column.title for column in columns)]
            shown = [[row[0], *(row[n] for n in kept)] for row in (heads, *rows)]
            parts += [f"### `{model}`", "", table(shown[0], shown[1:]), ""]
    return "\n".join(parts)


def ablations(found: Found) -> str:
    """The variants of Grad-CAM in its paper's appendix, beside Grad-CAM itself; "" where they were not measured."""
    if ("localisation", RESNET50) not in found or ("pointing", RESNET50) not in found:
        return ""
    columns = [
        Column("box error, top 1 ↓", "localisation", "error_top1", {}),
        Column("box error, top 5 ↓", "localisation", "error_top5", {}),
        Column("pointing ↑", "pointing", "hit", {"subset": "all"}),
        Column("pointing, difficult ↑", "pointing", "hit", {"subset": "difficult"}),
        Column("energy inside ↑", "pointing", "energy", {"subset": "all"}),
    ]
    names = {
        "gradcam": "Grad-CAM",
        "gradcam-no-relu": "without ReLU",
        "gradcam-absolute": "absolute gradients",
        "gradcam-max": "maximum of the gradients instead of their mean (GMP)",
        "gradcam-guided-relu": "guided ReLU in the backward pass",
        "gradcam-deconv-relu": "deconvnet's ReLU in the backward pass",
    }
    parts = [
        f"## Ablations of the Grad-CAM appendix: `{RESNET50}`",
        "",
        "What is left out or exchanged, on the photos and by the protocols of the sections on pointing and "
        "localisation: at the last stage, and one stage earlier. After the last one come average pooling and one "
        "linear layer: the gradient is the same at every place there, so that its maximum is its mean, and no ReLU "
        "follows whose backward rule could be exchanged.",
        "",
    ]
    for model in (RESNET50, f"{RESNET50}, {EARLIER}"):
        if ("localisation", model) in found and ("pointing", model) in found:
            rows = [
                [name, f"`{method}`", *(told(column.of(found, model, method), True) for column in columns)]
                for method, name in names.items()
            ]
            layer = "the last stage" if model == RESNET50 else EARLIER
            parts += [f"At {layer}:", "", table(["Grad-CAM", "method", *(c.title for c in columns)], rows), ""]
    published = (
        "*Published:* the paper's appendix compares the variants by localisation error; its numbers are not repeated "
        "here, because they could not be checked. Grad-CAM itself has 56.51 (top 1) and 46.41 (top 5) in the paper's "
        "main table (VGG-16, ILSVRC-15 val)."
    )
    return "\n".join([*parts, published, ""])


def section(result: Result, planned: Run) -> list[str]:
    """What is shown of a table, below a heading of its own, and where all of it is."""
    lines = [
        line for line in result.lines if all(line.labels[name] in kept for name, kept in planned.shown.items())
    ] or result.lines
    heads, *rows = replace(result, lines=lines).cells()
    parts = [f"### `{planned.title}`", "", table(heads, rows), ""]
    if len(lines) < len(result.lines):
        parts += [f"[All {len(result.lines)} lines](results/protocols/{planned.name}.md)", ""]
    return [*parts, f"*{result.items:,} items. Settings: {settings(result)}.*", ""]


def settings(result: Result) -> str:
    """Of a result, as text; methods are in the table."""
    return ", ".join(f"{name} {value}" for name, value in result.settings.items() if name not in ("model", "methods"))


def cascade(result: Result, planned: Run, metric: str = "signed") -> list[str]:
    """Cascading randomisation with a column for each method, and a line for each depth."""
    methods = list(dict.fromkeys(line.labels["method"] for line in result.lines))
    cascading = lines_of(result, {"mode": "cascading"})
    depths = list(dict.fromkeys(line.labels["random layers"] for line in cascading))
    by_place = {(line.labels["random layers"], line.labels["method"]): line.means.get(metric) for line in cascading}
    rows = [[depth, *(told(by_place.get((depth, method)), False) for method in methods)] for depth in depths]
    return [
        f"### `{planned.title}`",
        "",
        "Rank correlation with the trained model's map (lower is better) when the layers are random from the head ...",
        "",
        table(["random layers", *methods], rows),
        "",
        f"[Layers one by one, and of magnitudes](results/protocols/{planned.name}.md)",
        "",
        f"*{result.items:,} items. Settings: {settings(result)}.*",
        "",
    ]


def by_protocol(done: Sequence[tuple[Run, Result]]) -> dict[str, list[tuple[Run, Result]]]:
    """Runs with their results, together where the protocol is the same."""
    found: dict[str, list[tuple[Run, Result]]] = {}
    for planned, result in done:
        found.setdefault(planned.protocol, []).append((planned, result))
    return found
