"""From a task, a batch and method names to Explanations."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from mmexplain.engine import DEFAULT_MEMORY, run
from mmexplain.errors import LayerError, MethodError
from mmexplain.explanation import Explanation, MapKey
from mmexplain.linear_head import require_linear_head
from mmexplain.methods.method import Method
from mmexplain.methods.registry import DEFAULT_METHOD, get, select
from mmexplain.methods.relu_rules import NoReLUError, ReLURule
from mmexplain.methods.text import select as select_text
from mmexplain.moments import softmax_moments
from mmexplain.precision import in_precision, lowered, told
from mmexplain.precisions import Precision
from mmexplain.probe import Probe
from mmexplain.problem import Choice, Choose, Observe, Problem, Result, Rows, Score, Strategy
from mmexplain.reading import Passage, Reading, read
from mmexplain.scoring import score as score_only
from mmexplain.taps import INPUT, optional_layers, resolve

if TYPE_CHECKING:
    from mmexplain.tasks.base import Batch, Task

ATTENTION = "attention"
"""Layer name under which a model's own attention is filed."""


@dataclass
class _Plan:
    """The gradient passes that a set of methods needs: one for each backward rule of ReLU."""

    methods: list[Method]

    def passes(self) -> dict[ReLURule | None, tuple[list[Method], list[Method]]]:
        """rule → (methods at layers, methods at the input) that one pass serves, factors of products included.

        The plain pass comes first. Moments need it for its layers; attention is read off any pass. None at all for
        methods that ask for no gradient.
        """
        found: dict[ReLURule | None, tuple[list[Method], list[Method]]] = {}
        for method in self._elementary():
            layer, pixel = found.setdefault(method.rule, ([], []))
            (pixel if method.space == "pixel" else layer).append(method)
        if self._moments or (not found and any(method.space == "attention" for method in self.methods)):
            found.setdefault(None, ([], []))
        return dict(sorted(found.items(), key=lambda item: item[0] is not None))

    def taps(self, rule: ReLURule | None) -> bool:
        """Whether the pass for a rule is at layers, and not at the input only."""
        at_layers, at_input = self.passes()[rule]
        return bool(at_layers or not at_input or (self._moments and rule is None))

    def asked_for(self, rule: ReLURule | None) -> list[str]:
        """Names of the methods, as they were asked for, that the pass for a rule is made for."""
        return [m.name for m in self.methods if any(get(part).rule == rule for part in m.factors or (m.name,))]

    @property
    def at_layers(self) -> bool:
        """Whether a layer must be named."""
        return any(map(self.taps, self.passes())) or any(method.at_layers for method in self.methods)

    @property
    def _moments(self) -> bool:
        return any(method.moments for method in self.methods)

    def _elementary(self) -> list[Method]:
        names: dict[str, Method] = {}
        for method in self.methods:
            for part in method.factors or (method.name,):
                names.setdefault(part, get(part))
        return [method for method in names.values() if method.space in ("layer", "pixel") and not method.moments]


def problem_of(task: Task, batch: Batch, score: Score | None = None, precision: str | None = None) -> Problem:
    """What the engine and the methods are given of a task and its prepared inputs; ``score`` and ``precision`` instead
    of the task's own.

    Raises:
        InputError, ModelError, DeviceError: a precision that there is not, or not for this model or device.
    """
    problem = Problem(
        task.model,
        task.encode,
        task.decode,
        score or task.score,
        batch.inputs,
        batch.context,
        batch.reader or task.reader,
        task.heavy_decode,
        task.pooled_vjp,
    )
    photo = batch.inputs[problem.image]
    dtype = lowered(task.precision if precision is None else precision, photo)
    return replace(problem, encode=in_precision(task.encode, dtype, photo.device), lowered=dtype)


def explain(
    task: Task,
    batch: Batch,
    targets: Choice | Choose | Rows,
    *,
    layers: Sequence[str] | None = None,
    methods: Sequence[str] = (DEFAULT_METHOD,),
    score: Score | None = None,
    strategy: Strategy = "auto",
    memory: int = DEFAULT_MEMORY,
    create_graph: bool = False,
    seed: int | None = None,
    text: str | Sequence[str] = (),
    precision: Precision | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Explanation]:
    """Explain every input of a batch.

    All methods at all layers come out of one gradient pass; guided and deconvnet ReLUs each need one more. Methods that
    question the model with changed inputs follow, one after the other. Text methods run the model again from its
    features on.

    Args:
        task: says how to run the model and what to differentiate.
        batch: B prepared inputs.
        targets: B rows of targets, or a function that makes a Choice of the features ``[B, ...]``; then predicting
            and explaining share one forward pass through the encoder.
        layers: dotted names or globs; the task's default layer if None.
        methods: names from the registry, with parameters where they are not to be the default's:
            ``"occlusion(patch=15)"``.
        score: what to differentiate instead of the task's own score.
        strategy: see :mod:`mmexplain.engine`.
        memory: bound in bytes on what one chunk of targets may take.
        create_graph: keep the graph, so that the maps can be trained through.
        seed: of what methods draw at random, 0 where left out; recorded in the provenance.
        text: names of text methods (:data:`mmexplain.methods.text.TEXT_METHODS`), or ``"all"``: what each word that the
            model read added to each score.
        precision: "bfloat16" or "float16" runs ``encode`` in that, and all that follows in float32
            (:mod:`mmexplain.precision`); "float32" leaves the model as it is. The task's own if None.
        progress: told how many changed inputs of how many are done, by methods that need many.

    Returns:
        One Explanation for each input. The maps stay on the model's device.

    Raises:
        MethodError: unknown, or not supported by the model; a text method where no text is read.
        InputError: an unknown precision.
        LayerError, TargetError, ModelError, DeviceError: see :func:`mmexplain.engine.run`.
    """
    started = time.perf_counter()
    seed = 0 if seed is None else seed
    plan = _Plan(select(methods))
    text_methods = select_text(text)
    text_layer = _text_layer(task, create_graph) if text_methods else None
    names = _layers(task, layers, plan.at_layers)
    problem = problem_of(task, batch, score, precision)
    options: dict[str, Any] = {"strategy": strategy, "memory": memory, "create_graph": create_graph}

    maps: dict[MapKey, Tensor] = {}
    first: Result | None = None
    for rule, (at_layers, at_input) in plan.passes().items():
        tapped = [*([INPUT] if at_input else []), *(names if plan.taps(rule) else [])]
        observe: dict[str, Observe] = {}
        if first is None:
            observe["probability"] = task.probability
            if any(method.space == "attention" for method in plan.methods):
                observe[ATTENTION] = task.attention
        try:
            result = run(
                problem,
                first.choice if first else targets,
                tapped,
                _reducer(at_layers, at_input),
                rule=rule,
                observe=observe,
                pooled=all(method.pooled for method in at_layers),
                **options,
            )
        except NoReLUError:
            asked = ", ".join(map(repr, plan.asked_for(rule)))
            raise MethodError(f"{asked} needs ReLUs, and model {task.model_id!r} runs none; use 'gradcam'") from None
        first = first or result
        if plan.taps(rule):
            # What is left of the globs.
            names = [layer for layer in result.reduced if layer != INPUT]
        for layer, named in result.reduced.items():
            maps |= {MapKey(layer, name): value for name, value in named.items()}
    if first is None:
        first = score_only(problem, targets, observe={"probability": task.probability})
    choice = first.choice
    problem.context = problem.context | choice.context

    checks: dict[str, dict[str, Tensor]] = {}
    for method in plan.methods:
        if method.space == "probe":
            if create_graph:
                raise MethodError(f"maps of {method.name!r} cannot be trained through; use 'gradcam'")
            probe = Probe(
                problem,
                choice.targets,
                first.scores,
                resolve(task.model, names),
                logits=task.logits,
                probability=task.probability,
                black=task.black(),
                strategy=strategy,
                memory=memory,
                seed=seed,
                progress=progress,
            )
            if method.at_layers and (optional := optional_layers(task.model, names)):
                probe.leave_out(optional)
            assert method.function is not None
            made = method.function(probe, **{**method.parameters, **method.options})
            maps |= {MapKey(layer, method.name): value for layer, value in made.items()}
            checks[method.name] = probe.checks
        if method.name == "cam":
            require_linear_head(problem, choice.targets, names, memory=memory)
        if method.moments:
            if create_graph:
                raise MethodError(f"maps of {method.name!r} cannot be trained through; use 'gradcam++'")
            maps |= _moment_maps(task, problem, choice.targets, names, method, memory)
        elif method.space == "attention":
            maps |= _attention_maps(task, first)
        elif method.space == "product":
            maps |= _products(maps, method)
        elif method.space == "fused":
            maps |= _fused(maps, method)

    readings = None
    if text_layer is not None:
        passages = _passages(task, choice)
        readings = read(problem, first.features, passages, text_layer, text_methods, memory=memory)

    order = {method.name: number for number, method in enumerate(plan.methods)}
    wanted = sorted((key for key in maps if key.method in order), key=lambda key: order[key.method])
    elapsed = time.perf_counter() - started
    return [
        Explanation(
            task=task.name,
            model=task.model_id,
            text=choice.texts[row] if choice.texts else None,
            targets=list(targets_of_row),
            scores=first.scores[row, : len(targets_of_row)],
            probabilities=_row(first.observed.get("probability"), row, len(targets_of_row)),
            maps={key: maps[key][row, : len(targets_of_row)] for key in wanted},
            geometry=batch.geometries[row],
            picture=batch.pictures[row],
            words=list(choice.words[row]) if choice.words else [],
            provenance=_provenance(problem, strategy, seed)
            | task.provenance()
            | _checks_of(checks, row, len(targets_of_row))
            | _text_provenance(text_layer, readings, row),
            seconds=elapsed / len(choice.targets),
            pixel_methods=frozenset(method.name for method in plan.methods if method.colour),
            text_maps=readings[row].maps if readings else {},
            text_errors=readings[row].errors if readings else {},
        )
        for row, targets_of_row in enumerate(choice.targets)
    ]


def _layers(task: Task, layers: Sequence[str] | None, needed: bool) -> list[str]:
    """The layers to tap; the task's own is looked for only if it is needed."""
    if layers is None:
        return [task.default_layer()] if needed else []
    names = [layers] if isinstance(layers, str) else list(layers)
    if not names:
        raise LayerError("layers=[] names no layer; name one, or leave it out for the default")
    if INPUT in names:
        raise LayerError(
            f"{INPUT!r} is no layer: it is where maps of pixel methods such as 'guided-backprop' are filed; name a "
            "layer that `mmexplain layers` lists"
        )
    resolve(task.model, names)
    return names


def _reducer(at_layers: list[Method], at_input: list[Method]) -> Any:
    def reduce(layer: str, activations: Tensor, gradients: Tensor) -> Mapping[str, Tensor]:
        methods = at_input if layer == INPUT else at_layers
        # Without a function the gradient is the map.
        return {m.name: m.function(activations, gradients) if m.function else gradients for m in methods}

    return reduce


def _moment_maps(
    task: Task, problem: Problem, targets: Rows, layers: Sequence[str], method: Method, memory: int
) -> dict[MapKey, Tensor]:
    function = method.function
    assert function is not None
    found = softmax_moments(problem, task.logits, targets, layers, memory=memory)
    return {
        MapKey(layer, method.name): function(activations, moments) for layer, (activations, moments) in found.items()
    }


def _attention_maps(task: Task, result: Result) -> dict[MapKey, Tensor]:
    value = result.observed.get(ATTENTION)
    if value is None:
        raise MethodError(f"model {task.model_id!r} has no attention of its own to show; use 'gradcam'")
    return {MapKey(ATTENTION, ATTENTION): value}


def _products(maps: Mapping[MapKey, Tensor], method: Method) -> dict[MapKey, Tensor]:
    """Upsampled layer maps times pixel gradients: ``[B, K, *S]``, ``[B, K, C, *P]`` → ``[B, K, C, *P]``."""
    assert method.factors is not None
    cam_name, pixel_name = method.factors
    pixels = maps[MapKey(INPUT, pixel_name)]
    size = pixels.shape[3:]
    mode = "bilinear" if len(size) == 2 else "trilinear"
    return {
        MapKey(key.layer, method.name): functional.interpolate(cam, size=size, mode=mode).unsqueeze(2) * pixels
        for key, cam in maps.items()
        if key.method == cam_name
    }


def _fused(maps: Mapping[MapKey, Tensor], method: Method) -> dict[MapKey, Tensor]:
    """One map of those of all layers, filed under their names."""
    assert method.factors is not None and method.function is not None
    (name,) = method.factors
    found = {key.layer: value for key, value in maps.items() if key.method == name}
    return {MapKey("+".join(found), method.name): method.function(list(found.values()))}


def _text_layer(task: Task, create_graph: bool) -> str:
    layer = task.text_layer()
    if layer is None:
        raise MethodError(
            f"model {task.model_id!r} reads no text, or does not say which layer embeds it: text methods have no "
            "words to explain; leave them out"
        )
    if create_graph:
        raise MethodError("what words added cannot be trained through; leave out text=... or create_graph")
    return layer


def _passages(task: Task, choice: Choice) -> list[Passage]:
    """What was read before each target; :attr:`Choice.words` are the words of the text."""
    if choice.words is None:
        raise MethodError(f"task {task.name!r} does not tell the words of its text, which text methods explain")
    return [
        Passage(len(words), row, [task.text_places(target, len(words)) for target in row])
        for words, row in zip(choice.words, choice.targets, strict=True)
    ]


def _text_provenance(layer: str | None, readings: Sequence[Reading] | None, row: int) -> dict[str, Any]:
    return {} if readings is None else {"text_layer": layer, "text_steps": readings[row].steps}


def _checks_of(checks: Mapping[str, Mapping[str, Tensor]], row: int, count: int) -> dict[str, Any]:
    """method → name → a number for each target of one input."""
    return {
        method: {name: value[row, :count].tolist() for name, value in found.items()}
        for method, found in checks.items()
        if found
    }


def _row(value: Tensor | None, row: int, count: int) -> Tensor | None:
    return None if value is None else value[row, :count].float()


@cache
def _version() -> str:
    return version("mmexplain")


def _provenance(problem: Problem, strategy: Strategy, seed: int) -> dict[str, Any]:
    image = problem.inputs[problem.image]
    return {
        "mmexplain": _version(),
        "torch": torch.__version__,
        "device": str(image.device),
        "dtype": str(image.dtype).removeprefix("torch."),
        "precision": told(problem.lowered, image),
        "input_shape": list(image.shape[1:]),
        "strategy": strategy,
        "seed": seed,
    }
