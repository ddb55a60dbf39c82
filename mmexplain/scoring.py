"""Scores alone, without a gradient: for methods that only ask what the model says."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from mmexplain.errors import ModelError
from mmexplain.forward import model_runs
from mmexplain.problem import Choice, Choose, Observe, Problem, Result, Rows, as_choice, padded, require_targets
from mmexplain.surroundings import ordinary, require_ordinary, undisturbed


def score(problem: Problem, targets: Choice | Choose | Rows, *, observe: Mapping[str, Observe] | None = None) -> Result:
    """Run the model once and score K targets of each input.

    Args:
        problem: model and inputs.
        targets: as for :func:`mmexplain.engine.run`.
        observe: name → function of output and rows.

    Returns:
        A Result without maps.

    Raises:
        TargetError, ModelError
    """
    require_ordinary(problem.model)
    image = problem.inputs[problem.image]
    with undisturbed(problem.model, image.device):
        inputs = {name: ordinary(value) for name, value in problem.inputs.items()}
        with model_runs(image.shape):
            features = problem.encode(inputs)
        choice = as_choice(targets(features) if callable(targets) else targets)
        require_targets(choice, len(image))
        rows = padded(choice.targets)
        context = {name: ordinary(value) for name, value in (problem.context | choice.context).items()}
        with model_runs(image.shape):
            output = problem.decode(features, context)
        scores = problem.score(output, rows)
        observed = {name: function(output, rows) for name, function in (observe or {}).items()}
    if not bool(torch.isfinite(scores).all()):
        raise ModelError("the model's score is not finite (NaN or Inf)")
    found = {name: value for name, value in observed.items() if value is not None}
    return Result(choice, scores.float(), {}, found, features)
