"""What a method is to the rest of the package, and how its name is written with parameters."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mmexplain.errors import MethodError, did_you_mean
from mmexplain.methods.relu_rules import ReLURule

Space = Literal["layer", "pixel", "product", "fused", "probe", "attention"]

_WRITTEN = re.compile(r"\s*([^()\s]+)\s*(?:\((.*)\))?\s*", re.DOTALL)


@dataclass(frozen=True)
class Method:
    """How a map is made from what the engine computes.

    Attributes:
        name: as the user writes it, with the parameters that differ from the default: ``occlusion(patch=15)``.
        summary: one line for people.
        paper: where it was published.
        space: where its maps come from:

            * "layer": a function of activations and gradients at a tapped layer;
            * "pixel": a function of the model's input and the gradient there;
            * "product": an upsampled layer map times a pixel gradient;
            * "fused": one map of the maps of all tapped layers;
            * "probe": it runs the model in its own way, through a :class:`~mmexplain.probe.Probe`;
            * "attention": the model's own.
        function: for "layer": ``(activations [B, 1, C, *S], gradients [B, K, C, *S]) → [B, K, *S]``; for "pixel": the
            same at the input, None for the gradient ``[B, K, C, *P]`` itself; for "fused": ``([B, K, *S] of each
            layer) → [B, K, *S]``; for "probe": ``(probe, **parameters) → layer → [B, K, *S]``.
        rule: backward rule of ReLU in the pass that makes the gradients.
        pooled: for "layer": the function reads no more of the gradients than their mean over the places, and gives the
            same map for ``[B, K, C, 1, ...]``.
        moments: the function takes :class:`~mmexplain.methods.class_activation.SoftmaxMoments` in place of gradients.
        factors: for "product": names of the layer method and the pixel method; for "fused": of the layer method.
        needs: what the model must have, for people.
        cost: forward and backward passes for K targets, for people.
        signed: the raw map has meaningful negative values.
        colormap: of the pictures of a signed map, where the method's paper has its own: a name that
            :func:`~mmexplain.render.colors.rgb_table` knows.
        colour: the maps keep the input's channels, ``[B, K, C, *P]``.
        grainy: the maps differ from pixel to pixel and have long tails: pictures of them cut off the strongest values.
        at_layers: for "probe": it makes a map for each tapped layer; otherwise the layers are not looked at.
        parameters: name → default.
        options: the parameters that were given and are not the default.
    """

    name: str
    summary: str
    paper: str
    space: Space
    function: Callable[..., Any] | None = None
    rule: ReLURule | None = None
    pooled: bool = False
    moments: bool = False
    factors: tuple[str, ...] | None = None
    needs: str = "gradients"
    cost: str = "1 forward + K head backwards"
    signed: bool = False
    colormap: str | None = None
    colour: bool = False
    grainy: bool = False
    at_layers: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def given(self, options: Mapping[str, Any]) -> Method:
        """The same method with parameters set.

        Raises:
            MethodError: it has no such parameter, or the value is of another type.
        """
        for name, value in options.items():
            if name not in self.parameters:
                hint = did_you_mean(name, self.parameters) if self.parameters else ""
                known = ", ".join(f"{key}={default!r}" for key, default in self.parameters.items())
                has = f"it has: {known}" if known else "it has none"
                raise MethodError(f"{self.name!r} has no parameter {name!r}{hint}; {has}")
            default = self.parameters[name]
            if default is not None and not _alike(value, default):
                raise MethodError(f"{name} of {self.name!r} is like {default!r}, not {value!r}")
        chosen = {
            name: options[name]
            for name, default in self.parameters.items()
            if name in options and options[name] != default
        }
        written = ", ".join(f"{name}={value!r}" for name, value in chosen.items())
        return replace(self, name=f"{self.name}({written})" if written else self.name, options=chosen)


def _alike(value: Any, default: Any) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, float):
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, type(default))


def parse(text: str) -> tuple[str, list[dict[str, Any]]]:
    """``"occlusion(patch=[15, 35], stride=8)"`` → the name and its parameters, once for each value in a list.

    Raises:
        MethodError: that is not how a method is written.
    """
    wrong = MethodError(f"cannot read the method {text!r}: it is written NAME or NAME(PARAMETER=VALUE, ...)")
    match = _WRITTEN.fullmatch(text)
    if match is None:
        raise wrong
    name, inside = match.groups()
    if not inside:
        return name, [{}]
    try:
        call = ast.parse(f"f({inside})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise wrong
        names = [keyword.arg for keyword in call.keywords]
        if None in names or len(set(names)) < len(names):
            raise wrong
        given = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, TypeError):
        raise wrong from None
    rows: list[dict[str, Any]] = [{}]
    for key, value in given.items():
        values = value if isinstance(value, list) else [value]
        rows = [{**row, key: one} for row in rows for one in values]
    return name, rows
