"""What each word that a model read added to its scores: attribution over a text instead of over the photo.

The photo is not looked at again. From its features on, the model runs with the words' embeddings scaled by α, for a few
α between 0 and 1, and each score is differentiated with respect to them; :mod:`mmexplain.methods.text` says how the
gradients are added up. Only words are scaled: a start token, padding, and words that were read later stay as they are.
So the parts of the words alone add up to the score, less the score S₀ of the same input without its words.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmexplain.engine import DEFAULT_MEMORY
from mmexplain.errors import LayerError, ModelError
from mmexplain.forward import model_runs
from mmexplain.gradients import vectorized
from mmexplain.methods.path import completeness_error
from mmexplain.methods.text import TextMethod
from mmexplain.passes import GRAPH_FACTOR, in_chunks
from mmexplain.problem import Problem
from mmexplain.surroundings import ordinary, undisturbed
from mmexplain.taps import first_tensor, replace_tensor, resolve
from mmexplain.targets import Target

STEPS = (8, 32, 128)
"""Points on the path of integrated gradients: more of them for a target whose words do not add up well enough."""

TOLERANCE = 0.01
"""Completeness error from which on more steps are taken."""

COARSE = 0.1
"""Completeness error that is no matter of rounding."""

TEXT_GRAPH_FACTOR = 40
"""Tensors of the embeddings' size that a graph over one row of text is reckoned to keep alive."""


@dataclass(frozen=True)
class Passage:
    """The text of one input, and what was read of it before each of K targets was said.

    Attributes:
        words: how many words W the text has.
        targets: the K targets.
        places: for each target, where the first word, the second ... stand among the text layer's T places: as many
            as were read before it. A word of several tokens stands at several places.
    """

    words: int
    targets: Sequence[Target]
    places: Sequence[Sequence[int | Sequence[int]]]


@dataclass(frozen=True)
class Reading:
    """What the words of one input added to the scores of its K targets.

    Attributes:
        maps: method → ``[K, W]`` float32; NaN for words that were not read before the target was said.
        errors: method → ``[K]`` float32, for methods that promise completeness: ``|Σ_t a_t − (S − S₀)| / |S − S₀|``;
            |S − S₀| is taken to be at least √ε of the parts' and the scores' size, ε being the rounding of their type.
        steps: the most points that were taken on the path of any of the K targets.
    """

    maps: dict[str, Tensor]
    errors: dict[str, Tensor]
    steps: int


def read(
    problem: Problem,
    features: Tensor | None,
    passages: Sequence[Passage],
    layer: str,
    methods: Sequence[TextMethod],
    *,
    steps: Sequence[int] = STEPS,
    memory: int = DEFAULT_MEMORY,
) -> list[Reading]:
    """Attribute the scores of B inputs to the words that the model read.

    Args:
        problem: model and inputs; its context holds the text.
        features: what ``encode`` returned for the inputs, ``[B, ...]``; None lets it run once.
        passages: the texts of the B inputs.
        layer: dotted name of the module that embeds the text: called once in ``decode``, it puts out ``[R, T, D]``, or
            several rows for each of R, where the same words are read before different ends.
        methods: what to compute, all from the same runs.
        steps: points on the path of integrated gradients: the first number for all targets, the next ones for those
            whose completeness error is still above :data:`TOLERANCE`, as long as it halves or is above :data:`COARSE`.
        memory: bound in bytes on what the rows that run at once may take, by a rough estimate.

    Raises:
        LayerError: there is no such layer, it does not run once in ``decode``, or puts out something else.
        ModelError: the scores do not depend on it in a differentiable way, or are not finite.
        DeviceError: not even one row fits.
    """
    (name,) = resolve(problem.model, [layer])
    rows = [
        _Row(number, target, tuple((place,) if isinstance(place, int) else tuple(place) for place in places))
        for number, passage in enumerate(passages)
        for target, places in zip(passage.targets, passage.places, strict=True)
        if places
    ]
    image = problem.inputs[problem.image]
    found: list[_Result] = []
    if rows:
        with undisturbed(problem.model, image.device):
            if features is None:
                with model_runs(image.shape):
                    features = problem.encode({key: ordinary(value) for key, value in problem.inputs.items()})
            found = _refined(problem, ordinary(features), rows, name, methods, steps, memory)

    readings = []
    results = iter(found)
    for passage in passages:
        added = image.new_full((len(methods), len(passage.targets), passage.words), torch.nan, dtype=torch.float32)
        errors = image.new_zeros(len(methods), len(passage.targets), dtype=torch.float32)
        most = 0
        for k, places in enumerate(passage.places):
            if places:
                result = next(results)
                added[:, k, : len(places)] = result.parts.float()
                errors[:, k] = result.errors
                most = max(most, result.steps)
        readings.append(
            Reading(
                {method.name: added[m] for m, method in enumerate(methods)},
                {method.name: errors[m] for m, method in enumerate(methods) if method.complete},
                most,
            )
        )
    return readings


@dataclass
class _Result:
    """What the words W of one row added by each of M methods, ``[M, W]``, the errors ``[M]`` and the steps taken."""

    parts: Tensor
    errors: Tensor
    steps: int


def _refined(
    problem: Problem,
    features: Tensor,
    rows: Sequence[_Row],
    layer: str,
    methods: Sequence[TextMethod],
    steps: Sequence[int],
    memory: int,
) -> list[_Result]:
    """One result for each row. The rows that do not add up are gone through again with more steps."""
    complete = torch.tensor([method.complete for method in methods])
    found: dict[int, _Result] = {}
    todo = list(range(len(rows)))
    for count in steps:
        alphas, weights = _path(methods, count)
        products, scores = _along(problem, features, [rows[r] for r in todo], layer, alphas, memory)
        again = []
        for r, along, ends in zip(todo, products, scores, strict=True):
            every = weights.to(along) @ along
            parts = torch.stack([every[:, list(word)].sum(1) for word in rows[r].places], 1)
            errors = completeness_error(parts, ends)
            worst = float(errors[complete].max()) if complete.any() else 0.0
            before = found[r].errors[complete] if r in found else None
            found[r] = _Result(parts, errors, count if complete.any() else 1)
            # A small error that stays is rounding's, and more steps would not help. A large one falls by fits and
            # starts where the score jumps on the way.
            if worst > TOLERANCE and (before is None or worst < float(before.max()) / 2 or worst > COARSE):
                again.append(r)
        todo = again
        if not todo:
            break
    return [found[r] for r in range(len(rows))]


def _path(methods: Sequence[TextMethod], steps: int) -> tuple[list[float], Tensor]:
    """All P points that M methods need, in order, both ends among them if a method is to be checked against the
    scores there; and what each counts for each method, ``[M, P]``."""
    points = [dict(method.points(steps)) for method in methods]
    ends = {0.0, 1.0} if any(method.complete for method in methods) else set()
    alphas = sorted(ends.union(*points))
    weights = [[counts.get(alpha, 0.0) for alpha in alphas] for counts in points]
    return alphas, torch.tensor(weights, dtype=torch.float64)


@dataclass(frozen=True)
class _Row:
    """One target of input ``number``, and where the words read before it stand, with all of their tokens."""

    number: int
    target: Target
    places: tuple[tuple[int, ...], ...]

    @property
    def tokens(self) -> list[int]:
        """Places of all tokens of all words."""
        return [place for word in self.places for place in word]


def _along(
    problem: Problem,
    features: Tensor,
    rows: Sequence[_Row],
    layer: str,
    alphas: Sequence[float],
    memory: int,
) -> tuple[Tensor, Tensor]:
    """Run the model with the words of R rows scaled by each of P shares.

    Rows of one input with the same words run once for all their targets.

    Returns:
        ``Σ_d e_td ∂S/∂e_td`` for each row, share and place, ``[R, P, T]``, and the scores S, ``[R, P]``.
    """
    context = {name: ordinary(value) for name, value in problem.context.items()}
    image = problem.inputs[problem.image]
    with model_runs(image.shape), _scaled(problem.model, layer, len(features)) as embedding:
        problem.decode(features, context)
    texts, device = embedding.value, features.device
    wide = torch.promote_types(texts.dtype, torch.float32)
    path = torch.tensor(alphas, device=device, dtype=wide)
    row_bytes = GRAPH_FACTOR * _bytes(features[0]) + TEXT_GRAPH_FACTOR * _bytes(texts[0])

    products = torch.empty(len(rows), len(path), texts.shape[1], device=device, dtype=wide)
    scores = torch.empty(len(rows), len(path), device=device, dtype=wide)
    for groups in _by_text(rows):
        count = len(groups[0])
        words = torch.zeros(len(groups), texts.shape[1], dtype=torch.bool, device=device)
        for g, group in enumerate(groups):
            places = rows[group[0]].tokens
            if max(places) >= texts.shape[1]:
                raise LayerError(f"text layer {layer!r} puts out {texts.shape[1]} place(s); there is no {max(places)}")
            words[g, places] = True
        inputs = torch.tensor([rows[group[0]].number for group in groups], device=device)

        def run(
            part: slice, groups: list[list[int]] = groups, words: Tensor = words, inputs: Tensor = inputs
        ) -> tuple[Tensor, Tensor]:
            numbers = torch.arange(len(groups) * len(path), device=device)[part]
            text, alpha = numbers // len(path), path[numbers % len(path)]
            own = inputs[text]
            targets = [[rows[r].target for r in groups[g]] for g in text.tolist()]
            shares = torch.where(words[text], alpha[:, None], 1.0)
            with torch.enable_grad():
                with model_runs(image.shape), _scaled(problem.model, layer, len(own), shares) as embedding:
                    output = problem.decode(features[own], {name: value[own] for name, value in context.items()})
                found = problem.score(output, targets)
            gradients = None
            if found.requires_grad:
                vectors = torch.eye(found.shape[1], device=device, dtype=found.dtype)[:, None].expand(-1, *found.shape)
                (gradients,) = vectorized(found, vectors, [embedding.scaled], create_graph=False)
            if gradients is None:
                raise ModelError(
                    f"the scores do not depend on text layer {layer!r} in a differentiable way: the model detaches "
                    "what it puts out, or answers without it"
                )
            # Words that several copies of a text share are the same words: what they added is summed.
            each = (gradients.to(wide) * embedding.value.to(wide)).sum(3).unflatten(1, (len(own), -1)).sum(2)
            return each.movedim(0, 1), found.detach().to(wide)

        size = max(1, memory // (row_bytes * count))
        some, ends = (torch.cat(parts) for parts in zip(*in_chunks(len(groups) * len(path), size, run), strict=True))
        members = torch.tensor(groups, device=device)
        products[members] = some.unflatten(0, (len(groups), -1)).transpose(1, 2)
        scores[members] = ends.unflatten(0, (len(groups), -1)).transpose(1, 2)
    if not all(bool(torch.isfinite(value).all()) for value in (products, scores)):
        raise ModelError(
            f"the scores or their gradients at text layer {layer!r} are not finite (NaN or Inf) on the way from no "
            "words to the words"
        )
    return products, scores


def _by_text(rows: Sequence[_Row]) -> list[list[list[int]]]:
    """Numbers of the rows that share input and words, in groups; groups of equal size stand together."""
    texts: dict[tuple[int, tuple[tuple[int, ...], ...]], list[int]] = {}
    for r, row in enumerate(rows):
        texts.setdefault((row.number, row.places), []).append(r)
    sizes: dict[int, list[list[int]]] = {}
    for group in texts.values():
        sizes.setdefault(len(group), []).append(group)
    return list(sizes.values())


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


@dataclass
class _Embedded:
    """What the text layer put out for R texts of one or more copies each, ``[R · copies, T, D]``, and the leaf that was
    handed on in its place."""

    value: Tensor
    scaled: Tensor


@contextmanager
def _scaled(model: nn.Module, layer: str, rows: int, shares: Tensor | None = None) -> Iterator[_Embedded]:
    """The text layer's output is scaled by ``shares`` ``[R, T]`` and the graph starts there, in this thread; after one
    run of ``decode`` the yielded value is filled in."""
    thread = threading.get_ident()
    embedded = _Embedded(torch.empty(0), torch.empty(0))
    calls = 0

    def hook(_: nn.Module, __: Any, output: Any) -> Any:
        nonlocal calls
        value = first_tensor(output)
        if value is None or threading.get_ident() != thread:
            return None
        calls += 1
        if calls > 1:
            raise LayerError(
                f"text layer {layer!r} runs more than once for a text; name one that embeds all of its words at once"
            )
        if value.ndim != 3 or not len(value) or len(value) % rows or not value.is_floating_point():
            raise LayerError(
                f"text layer {layer!r} puts out {value.dtype} {tuple(value.shape)} for {rows} text(s); it should be "
                f"one vector for each place, ({rows}, places, size)"
            )
        embedded.value = value.detach()
        if shares is None:
            return None
        # A model may embed under its own no_grad or inference_mode; what is handed on starts a graph all the same.
        with torch.inference_mode(False), torch.enable_grad():
            own = shares.repeat_interleave(len(value) // rows, 0)
            embedded.scaled = (embedded.value * own[..., None]).to(value.dtype).requires_grad_()
            return replace_tensor(output, value, embedded.scaled.clone())

    handle = model.get_submodule(layer).register_forward_hook(hook)
    try:
        yield embedded
    finally:
        handle.remove()
    if not calls:
        raise LayerError(f"text layer {layer!r} does not run while the model decodes, so it embeds no text there")
