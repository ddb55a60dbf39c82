"""``study``: what the papers do with explanations, a verb each."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from mmexplain.commands.options import examples

VERBS = {
    "failures": "mmexplain.commands.studies.failures",
    "robustness": "mmexplain.commands.studies.robustness",
    "bias": "mmexplain.commands.studies.bias",
    "counterfactuals": "mmexplain.commands.studies.counterfactuals",
    "seeds": "mmexplain.commands.studies.seeds",
    "boxes": "mmexplain.commands.studies.boxes",
    "regions": "mmexplain.commands.studies.regions",
    "distil": "mmexplain.commands.studies.distil",
    "questionnaire": "mmexplain.commands.studies.questionnaire",
    "answers": "mmexplain.commands.studies.answers",
}
"""Verb → the module whose function of the same name it is."""


class Studies(click.Group):
    """The group of studies; each is imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the list above."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb, or None."""
        if cmd_name not in VERBS:
            return None
        command: Any = getattr(import_module(VERBS[cmd_name]), cmd_name)
        found: click.Command = command
        return found


@click.group(
    cls=Studies,
    short_help="What the papers do with explanations.",
    epilog=examples(
        "mmexplain study failures --data coco/ --model efficientnet-lite0 --out failures/",
        "mmexplain study bias --help      every study has help of its own",
    ),
)
def study() -> None:
    """Studies of a model by its explanations; each has a control that can fail, and says whether it held."""
