"""Methods that tell which words of a text a model read counted for what it said: the one list of them.

Both add up gradients along the straight path that takes the words' embeddings from zero (no word at all) to what they
are; they differ in the points at which they look.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mmexplain.errors import MethodError, did_you_mean
from mmexplain.methods.path import Points, gauss_legendre


@dataclass(frozen=True)
class TextMethod:
    """How what a word added to a score S is made of gradients with respect to its embedding e.

    Attributes:
        name: as the user writes it.
        summary: one line for people.
        formula: for people; t is a word, d an entry of its embedding.
        paper: where it was published.
        points: number of steps → points on the path.
        complete: promises that the words' parts add up to what all of them together change in the score.
        cost: forward and backward passes of the part of the model behind the photo's encoder, for N steps, for people.
    """

    name: str
    summary: str
    formula: str
    paper: str
    points: Callable[[int], Points]
    complete: bool
    cost: str


def _end(steps: int) -> Points:
    return [(1.0, 1.0)]


_METHODS = (
    TextMethod(
        "gradient-x-embedding",
        "gradient with respect to each word's embedding, times the embedding",
        "Σ_d e_td · ∂S/∂e_td",
        "Denil et al. 2014; Li et al., NAACL 2016; Ancona et al., ICLR 2018",
        _end,
        complete=False,
        cost="1 per target",
    ),
    TextMethod(
        "integrated-gradients",
        "the same, averaged over the way from no words to the words; the parts add up",
        "Σ_d e_td · ∫₀¹ ∂S(α·e)/∂e_td dα",
        "Sundararajan, Taly & Yan, ICML 2017, eq. 1",
        gauss_legendre,
        complete=True,
        cost="N + 2 forward, shared by the targets with the same words before them; N + 2 backward per target",
    ),
)

TEXT_METHODS: dict[str, TextMethod] = {method.name: method for method in _METHODS}
"""Every text method by name, in the order in which they are listed to people."""

ALL = "all"
"""What stands for every text method."""


def select(names: str | Sequence[str]) -> list[TextMethod]:
    """The text methods of those names, without repetition; ``"all"`` means every one.

    Raises:
        MethodError: there is none of that name; the message offers the nearest.
    """
    found: dict[str, TextMethod] = {}
    for name in [names] if isinstance(names, str) else names:
        if name == ALL:
            found |= TEXT_METHODS
        elif name in TEXT_METHODS:
            found[name] = TEXT_METHODS[name]
        else:
            hint = did_you_mean(name, TEXT_METHODS)
            raise MethodError(f"unknown text method {name!r}{hint}; there are: {', '.join(TEXT_METHODS)}, {ALL}")
    return list(found.values())
