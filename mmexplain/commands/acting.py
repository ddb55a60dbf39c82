"""``action``: a video in, actions and maps over space and time out."""

from __future__ import annotations

from typing import Any

import click

from mmexplain.commands.options import Request, examples, explaining_options, score_option, weight_option
from mmexplain.commands.running import explain

TOP = 2
"""Actions that are explained when none is named."""

MOST_FRAMES = 4096
"""Frames that may be asked for at once; no model takes more, and they must fit into memory."""


@click.command(
    short_help="Name the action in a video and show when and where it is seen.",
    epilog=examples(
        "mmexplain action clip.mp4",
        'mmexplain action clip.mp4 --target "arm wrestling" --target "playing cricket"',
        'mmexplain action clip.mp4 --versus "arm wrestling" "slapping" --out overlay.mp4',
        "mmexplain action long.mp4 --frames 64 --stride 2 --out maps/",
        "mmexplain action frames/ --model torchvision:r3d_18@weights.pth --frames 16",
    ),
)
@explaining_options("VIDEO")
@click.option("--target", "targets", metavar="LABEL", multiple=True, help="An action by name or number. Repeatable.")
@click.option("--top", metavar="K", type=click.IntRange(min=1), help=f"The K likeliest actions.  [default: {TOP}]")
@click.option(
    "--versus",
    nargs=2,
    multiple=True,
    metavar="LABEL OTHER",
    help="Explain why LABEL rather than OTHER. Repeatable.",
)
@weight_option
@click.option(
    "--frames",
    metavar="N",
    type=click.IntRange(1, MOST_FRAMES),
    help="Frames that the model sees at once.  [default: its own]",
)
@click.option(
    "--stride",
    metavar="N",
    type=click.IntRange(min=1),
    help="Every N-th frame of the video.  [default: what brings the video to the model's frame rate]",
)
@click.option(
    "--sampling",
    type=click.Choice(["auto", "uniform", "dense", "windows"]),
    default="auto",
    show_default=True,
    help="N frames spread over the video, N in its middle, or windows of N over all of it; auto takes windows where "
    "one is not enough.",
)
@score_option
def action(
    request: Request,
    targets: tuple[str, ...],
    top: int | None,
    versus: tuple[tuple[str, str], ...],
    weight: float,
    frames: int | None,
    stride: int | None,
    sampling: str,
    score: str | None,
) -> None:
    """Name the action in VIDEO (a file, a GIF, a folder of frames) and map when and where it is seen.

    Prints the actions and writes a report with a player to VIDEO.mmexplain.html in the current folder, or to --out.
    """
    if targets and top is not None:
        raise click.UsageError("--top and --target exclude each other: name the actions, or say how many")

    def options(task: Any) -> dict[str, Any]:
        chosen: dict[str, Any] = {"top": TOP if top is None else top}
        if targets or versus:
            named = [task.target(name) for name in targets]
            chosen = {"targets": [*named, *(task.contrast(label, other, weight) for label, other in versus)]}
        return {
            **chosen,
            "frames": frames,
            "stride": stride,
            "sampling": sampling,
            **({} if score is None else {"score": score}),
        }

    explain("action", request, options, read=_video)


def _video(path: str) -> Any:
    from mmexplain.video import open_video

    return open_video(path)
