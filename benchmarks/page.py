"""The page: a table for each case, what was asked for, and what was missed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cases.case import GRAD_CAM, OWN
from common import describe, table, with_spread
from verdicts import fastest, ratio, verdicts

MISSES = Path(__file__).parent / "misses.md"
"""Explanations of misses, written by hand."""

NOTES = """\
Random weights (bundled ones where a bundled model is named), inputs of noise. Times are medians with quartiles over \
rounds in changing order; a multiple of the forward pass is taken to the forward passes right before and after: of the \
whole model as it comes, without a graph, and for captions with its decoder reading all words. All contenders explain \
the same model object, in float32, at the layer's resolution, after the ReLU, and their maps were compared before \
anything was timed: equal to {tolerance:.0e} of each map's maximum (for the faintest maps, of a thousandth of the \
strongest one's) unless a line says otherwise; of contenders that go target by target those of the targets that were \
run. Every contender is \
set up once (not timed) and gets the prepared input, but in the last group, which begins and ends with files. All \
parameters are frozen but the last one before the earliest layer, so that the peers' graphs begin as late as they can; \
as models come, pytorch-grad-cam and the naive loop would go back through all of it.

- **mmexplain**: `mmexplain.explain` as it comes, Explanation included. It lays out four photos and more on a CPU with \
their channels together, which accounts for most of what it saves there on convolutional networks; the peers run the \
model on its input as it is given, as their documentation has it.
- **naive loop**: what one writes by hand from a tutorial: hooks, and a forward pass and a `backward()` for each target.
- **torch-cam**: one forward pass, then its extractor once a target with `retain_graph`; `normalized=False`; \
`reshape_transform` for tokens.
- **captum**: a call for each target, or one with the photo repeated for all (up to {repeatable} rows; not for BLIP, \
whose caption is read with one photo), whichever is faster. It has no way to fold tokens.
- **pytorch-grad-cam**: the same two ways; `reshape_transform` for tokens. Its resizing and normalisation, which have \
no switch, are taken out by a subclass, but in the last group; NumPy stays.
- **~**: a contender that goes target by target was run over some of the targets, as many as fit into {budget:g} \
seconds a round, and scaled up: in proportion, or, for one forward pass with many ways back, by what each further \
target adds. One that is too slow for more than one target is timed once for cases that differ in their number alone.
- **floor**: the fastest forward pass that was found (as it comes, in inference mode, or channels last), and the way \
back from all scores to the earliest layer as the machine would make it at full speed: operations counted over \
autograd's backward pass by the machine's rate in matrix products ({gflops:.0f} GFLOP/s, measured in this run), or \
bytes (activations read, gradients of all targets written, the head's weights read once) by its bandwidth in copying \
({gigabytes:.1f} GB/s), whichever takes longer. A contender can lie below it where it need not make all gradients: \
Grad-CAM needs only their mean over the places. For guided maps the way back goes on to the input; for methods that \
change the photo the floor is the fastest forward pass of all changed photos in one batch.
- **Score-CAM**: torch-cam scales masks before they are enlarged, pytorch-grad-cam aligns \
corners when it enlarges them: their maps are correlated with mmexplain's, not equal.
- **peak MiB**: what a call takes at most above what its process holds between calls, in a process of its own; \
contenders that go target by target were given one or two."""


def report(record: Mapping[str, Any]) -> str:
    """All of it as Markdown."""
    settings, rates = record["settings"], record["rates"]
    notes = NOTES.format(**settings, gflops=rates["flops"] / 1e9, gigabytes=rates["bandwidth"] / 1e9)
    lines = ["# mmexplain beside its peers", *map(_run, record["runs"]), notes]
    found = verdicts(record["cases"], settings["device"])
    lines += ["## What was asked for", _counted(found)]
    missed = [verdict for verdict in found if not verdict.met]
    lines.append("## Misses")
    if missed:
        rows = [[verdict.case, verdict.asked, verdict.value] for verdict in missed]
        lines.append(table(["case", "asked for", "found"], rows))
    else:
        lines.append("None.")
    if MISSES.exists():
        lines.append(MISSES.read_text().strip())
    group = None
    for name, case in record["cases"].items():
        if case["group"] != group:
            group = case["group"]
            lines.append(f"## {group}")
        lines.append(section(name, case))
    if record.get("failed"):
        lines.append("## Not measured")
        lines.append("\n".join(f"- {name}: {reason}" for name, reason in record["failed"].items()))
    lines.append("## All verdicts")
    rows = [[verdict.case, verdict.asked, verdict.value, _word(verdict.met)] for verdict in found]
    lines.append(table(["case", "asked for", "found", ""], rows))
    return "\n\n".join(lines)


def _run(run: Mapping[str, Any]) -> str:
    return f"{describe(run['machine'])}; {len(run['cases'])} cases in {run['minutes']:.0f} minutes: {run['command']}"


def _word(met: bool) -> str:
    return "met" if met else "**missed**"


def _counted(found: list[Any]) -> str:
    kinds: dict[str, list[bool]] = {}
    for verdict in found:
        kinds.setdefault(verdict.asked, []).append(verdict.met)
    rows = [[asked, f"{sum(met)} of {len(met)}", _word(all(met))] for asked, met in kinds.items()]
    return table(["asked for", "cases that meet it", ""], rows)


def section(name: str, case: Mapping[str, Any]) -> str:
    """The table of one case."""
    peaks = case.get("peak_mib")
    header = ["", "ms (quartiles)", "x forward pass", "x floor", f"x {OWN}"] + (["peak MiB"] if peaks else [])
    floor, forward = case["floor"], case["forward"]
    milliseconds = forward["ms"]["median"]

    def memory(contender: str) -> list[str]:
        value = (peaks or {}).get(contender)
        return ["-" if value is None else f"{value:.0f}"] if peaks else []

    rows = [
        ["floor", _few(floor["ms"]), f"{floor['ms'] / milliseconds:.2f}", "1.00", "-", *(["-"] if peaks else [])],
        [
            *("forward pass", _spread(forward["ms"]), "1.00", f"{milliseconds / floor['ms']:.2f}", "-"),
            *memory("forward pass"),
        ],
    ]
    for part, found in case["parts"].items():
        rows.append([part, _spread(found["ms"]), f"{found['ratio']['median']:.2f}", "-", "-", *memory(part)])
    for contender in sorted(case["contenders"], key=lambda contender: ratio(case, contender)):
        found = case["contenders"][contender]
        label = f"**{contender}**" if contender == OWN else contender
        partial = found["targets_run"] < case["targets"]
        rows.append(
            [
                f"{label}, {found['way']}" if found["way"] else label,
                ("~" if partial else "") + _spread(found["ms"]),
                ("~" if partial else "") + with_spread(found["ratio"], 2),
                f"{found['of_floor']:.2f}",
                "-" if contender == OWN else f"{ratio(case, contender) / ratio(case, OWN):.2f}",
                *memory(contender),
            ]
        )
    layers = ", ".join(f"`{layer}`" for layer in case["layers"])
    lines = [f"### {name}", table(header, rows), "\n".join(_remarks(case, layers))]
    return "\n\n".join(lines)


def _spread(spread: Mapping[str, float]) -> str:
    return with_spread(spread, 1 if spread["median"] < 10 else 0)


def _few(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"


def _remarks(case: Mapping[str, Any], layers: str) -> list[str]:
    floor, contenders = case["floor"], case["contenders"]
    rounds = min(found["rounds"] for found in contenders.values())
    lines = [
        f"- {layers}; {rounds} rounds or more. Floor: {floor['forward_share']:.2f} of the forward pass "
        f"({floor['forward']}) + {_few(floor['head_ms'])} ms for {floor['head_flops'] / 1e9:.2f} GFLOP and "
        f"{floor['head_bytes'] / 2**20:.0f} MiB on the way back."
    ]
    off = [found["difference"] for found in contenders.values() if "difference" in found]
    if off:
        lines.append(f"- Maps equal before timing: largest relative difference {max(off):.1e}.")
    together = [f"{name} {found['correlation']:.3f}" for name, found in contenders.items() if "correlation" in found]
    if together:
        lines.append(f"- Maps correlate with mmexplain's: {', '.join(together)}.")
    through = [
        f"{name} {found['photos_through_the_model']}"
        for name, found in contenders.items()
        if "photos_through_the_model" in found
    ]
    if through:
        lines.append(f"- Photos that went through the model: {', '.join(through)}.")
    peer = fastest(case)
    if peer is not None:
        share = f"- mmexplain takes {ratio(case, OWN) / ratio(case, peer):.2f} of the time of the fastest peer ({peer})"
        if GRAD_CAM in contenders:
            share += f", {ratio(case, OWN) / ratio(case, GRAD_CAM):.3f} of pytorch-grad-cam's"
        lines.append(f"{share}.")
    lines += [f"- {name}: {why}." for name, why in case["left_out"].items()]
    return lines + ([f"- {case['note']}"] if case["note"] else [])
