"""Tasks whose model scores N outcomes at once, one of which is meant: classes, answers, actions."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from mmexplain import targets as kinds
from mmexplain.errors import InputError, TargetError
from mmexplain.targets import Kind, Target
from mmexplain.tasks.base import Task, contrasted, evenly, probabilities_of
from mmexplain.tasks.labels import Labels
from mmexplain.transfer import sent

Link = Literal["softmax", "sigmoid", "none"]
Name = str | int | Target
Contrast = tuple[Name, Name] | tuple[Name, Name, float]
ScoreName = Literal["logit", "log-probability"]


class OutcomeTask(Task):
    """Naming outcomes, and scoring them.

    Attributes:
        kind: what sort of target an outcome is.
        labels: the N names in the order of the outputs; two names for a single logit of a yes/no model; None where
            outcomes have numbers only.
        numbered: whether a number written as text names an outcome by its place. Not where numbers are outcomes.
        link: how logits become probabilities. None means softmax over several outcomes, sigmoid for a single logit
            with two labels, and none for another single output (regression).
    """

    kind: ClassVar[Kind] = "class"
    numbered: ClassVar[bool] = True
    labels: Labels | None = None
    link: Link | None = None

    def outcomes(self, output: Any) -> Tensor:
        """Logits ``[R, N]`` in what :meth:`~mmexplain.tasks.base.Task.decode` returned."""
        logits: Tensor = output
        return logits

    # -- scores -----------------------------------------------------------------------------------------------------

    def score(self, output: Any, targets: Sequence[Sequence[Target]]) -> Tensor:
        """Logits ``[R, K]`` before the softmax; for a contrast the difference of two. Where one logit stands for
        yes or no, "no" has its negative.
        """
        return self._scored(self._columns(self.outcomes(output)), targets)

    def log_probability(self, output: Any, targets: Sequence[Sequence[Target]]) -> Tensor:
        """Log-probabilities ``[R, K]``; for a contrast the difference of two. The other score to differentiate.

        Raises:
            InputError: the outputs are no probabilities (regression).
        """
        logits = self.outcomes(output)
        if self._link(logits) == "none":
            raise InputError(f"the outputs of model {self.model_id!r} are no probabilities: explain their score")
        return self._scored(self._log_probabilities(logits), targets)

    def score_named(self, name: ScoreName) -> Any:
        """The function :meth:`score` or :meth:`log_probability`, by the name of what it differentiates.

        Raises:
            InputError: there is no such score.
        """
        scores = {"logit": self.score, "log-probability": self.log_probability}
        if name not in scores:
            raise InputError(f"unknown score {name!r}; there are: {', '.join(map(repr, scores))}")
        return scores[name]

    def probability(self, output: Any, targets: Sequence[Sequence[Target]]) -> Tensor | None:
        """Probabilities ``[R, K]``; for a contrast that of its first outcome if it is one of the two."""
        logits = self.outcomes(output).float()
        if self._link(logits) == "none":
            return None
        return probabilities_of(self._scored(self._log_probabilities(logits), evenly(targets)), targets)

    def logits(self, output: Any, targets: Sequence[Sequence[Target]]) -> Tensor | None:
        """Logits ``[R, K, N]`` of the softmax over the outcomes; None where they do not exclude each other."""
        logits = self.outcomes(output)
        if self._link(logits) == "softmax":
            columns = logits
        elif self._is_binary(logits):
            columns = torch.cat((torch.zeros_like(logits), logits), 1)
        else:
            return None
        return columns[:, None].expand(-1, len(targets[0]), -1)

    def _scored(self, columns: Tensor, targets: Sequence[Sequence[Target]]) -> Tensor:
        def scored(rows: Sequence[Sequence[Target]]) -> Tensor:
            numbers = [[self._number(target, columns) for target in row] for row in rows]
            return columns.gather(1, sent(numbers, columns.device))

        return contrasted(targets, scored)

    def _log_probabilities(self, logits: Tensor) -> Tensor:
        columns = self._columns(logits)
        return columns.log_softmax(1) if self._link(logits) == "softmax" else torch.nn.functional.logsigmoid(columns)

    def _is_binary(self, logits: Tensor) -> bool:
        return logits.shape[1] == 1 and self.labels is not None and len(self.labels) == 2

    def _columns(self, logits: Tensor) -> Tensor:
        """One column of scores for each outcome that a target can name."""
        return torch.cat((-logits, logits), 1) if self._is_binary(logits) else logits

    def _link(self, logits: Tensor) -> Link:
        if self.link is not None:
            return "sigmoid" if self.link == "softmax" and logits.shape[1] == 1 else self.link
        if logits.shape[1] > 1:
            return "softmax"
        return "sigmoid" if self._is_binary(logits) else "none"

    def _number(self, target: Target, columns: Tensor) -> int:
        count = columns.shape[1]
        if len(target.ids) != 1:
            raise TargetError(f"{target.label!r} is no {self.kind} of model {self.model_id!r}")
        if target.ids[0] >= count:
            raise TargetError(
                f"{self.kind} {target.ids[0]} does not exist: the model has {self._counted(count)}, 0 to {count - 1}"
            )
        return target.ids[0]

    def _counted(self, count: int) -> str:
        plural = "classes" if self.kind == "class" else f"{self.kind}s"
        return f"{count:,} {plural}"

    # -- targets ----------------------------------------------------------------------------------------------------

    def target(self, name: Name) -> Target:
        """The outcome that a name, a synonym or a number means.

        Raises:
            TargetError: there is none (the closest are offered), or several that fit.
        """
        if isinstance(name, Target):
            return name
        if isinstance(name, str) and self.labels is not None and not self._is_number(name, self.labels):
            return self._target(self.labels.find(name))
        try:
            index = int(name) if isinstance(name, str) else operator.index(name)
        except TypeError:
            raise TargetError(f"{name!r} is no {self.kind}: give a name or a number") from None
        except ValueError:
            raise TargetError(
                f"{name!r}: model {self.model_id!r} has no {self.kind} names; give a {self.kind} number, or labels"
            ) from None
        if self.labels is not None and not 0 <= index < len(self.labels):
            known = f"{self._counted(len(self.labels))}, 0 to {len(self.labels) - 1}"
            raise TargetError(f"{self.kind} {index} does not exist: the model has {known}")
        if index < 0:
            raise TargetError(f"{self.kind} {index} does not exist: {self.kind} numbers start at 0")
        return self._target(index)

    def contrast(self, name: Name, versus: Name, weight: float = 1.0) -> Target:
        """``name`` rather than ``versus``: the score of the one less ``weight`` times that of the other.

        Raises:
            TargetError: there is no such outcome, or twice the same, or the weight is below 0.
        """
        target, against = self.target(name), self.target(versus)
        if target.ids == against.ids:
            raise TargetError(f"{target.label!r} cannot be held against itself: name another {self.kind}")
        return kinds.contrast(target, against, weight)

    def top(self, logits: Tensor, k: int = 1) -> list[list[Target]]:
        """The ``k`` likeliest outcomes of each row of logits ``[B, N]`` (all N if there are fewer), likeliest first.

        Raises:
            InputError: ``k`` is less than 1.
        """
        if k < 1:
            plural = self._counted(k).partition(" ")[2]
            raise InputError(f"cannot take the top {k} {plural}: ask for 1 or more")
        columns = self._columns(logits)
        best = columns.topk(min(k, columns.shape[1]), 1).indices
        return [[self._target(index) for index in row] for row in best.tolist()]

    def whole(self, name: str, value: Any) -> int:
        """``value`` as a whole number.

        Raises:
            InputError: it is none.
        """
        try:
            return operator.index(value)
        except TypeError:
            raise InputError(f"{name} is a whole number, not {value!r:.40}") from None

    def _is_number(self, name: str, labels: Labels) -> bool:
        return self.numbered and name.strip().isdecimal() and name.strip() not in labels

    def _target(self, index: int) -> Target:
        label = f"{self.kind} {index}" if self.labels is None else self.labels.shown(index)
        return Target(label, self.kind, (index,))


def listed(targets: Name | Sequence[Name]) -> Sequence[Name]:
    """One name as a list of one."""
    return [targets] if isinstance(targets, (str, int, Target)) else targets


def named(
    task: OutcomeTask, targets: Name | Sequence[Name] | None, versus: Name | Sequence[Contrast] | None
) -> tuple[list[Target] | None, Target | None]:
    """The targets that are named, None where the likeliest are wanted; and what all of them are held against, if
    ``versus`` is one name. Pairs ``(name, other)`` of it add the contrast of the two to the targets; a third number
    says how much of the other's score is taken away.

    Raises:
        TargetError: there is no such outcome, or the list is empty.
        InputError: neither a name nor pairs.
    """
    against, contrasts = None, []
    if isinstance(versus, str | int | Target):
        against = task.target(versus)
    elif versus is not None:
        for pair in versus if isinstance(versus, list | tuple) else [versus]:
            if not isinstance(pair, list | tuple) or len(pair) not in (2, 3):
                raise InputError(f"versus is one {task.kind} for all targets, or pairs of them; got {versus!r:.80}")
            contrasts.append(task.contrast(*pair))
    wanted = None if targets is None else [task.target(name) for name in listed(targets)]
    if wanted == [] and not contrasts:
        raise TargetError(f"no {task.kind} was named")
    return [*(wanted or []), *contrasts] if wanted or contrasts else None, against
