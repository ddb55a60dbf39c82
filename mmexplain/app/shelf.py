"""The models of the app: each is loaded once, when it is first asked for, and shared by everybody."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from mmexplain.errors import InputError, ModelError, did_you_mean
from mmexplain.layer_analysis import blocks_of
from mmexplain.tasks.registry import DEFAULTS, PULLED, load, models, pull, resolve_device

VERBS = ("caption", "vqa", "classify", "action")


class Shelf:
    """The models that may be asked, by verb; nobody can name another.

    Args:
        named: identifiers as ``--model`` takes them, each loaded at once, so that a wrong one is told before anybody
            comes; ``TASK=ID`` for a model that serves several tasks. They stand before the bundled ones.
        device: where the models run.

    Raises:
        ModelError, CheckpointError, DeviceError: one of the named models cannot be loaded.
    """

    def __init__(self, named: Sequence[str] = (), device: str = "auto") -> None:
        self._device = device
        resolve_device(device)
        self._loaded: dict[tuple[str, str], Any] = {}
        self._layers: dict[tuple[str, str], list[str]] = {}
        self._lock = Lock()
        self._names: dict[str, dict[str, str]] = {verb: {} for verb in VERBS}
        for identifier in named:
            wanted, _, rest = identifier.partition("=")
            model = rest if wanted in VERBS else identifier
            task = load(model, task=wanted if wanted in VERBS else None, device=device)
            # Where files lie on the server is nobody's business.
            label = Path(model).name if Path(model).exists() else model
            self._loaded[task.name, label] = task
            self._names[task.name][label] = model
        for info in sorted(models(), key=lambda info: info.id != DEFAULTS[info.task]):
            if (info.available and info.size is not None) or info.id in PULLED:
                self._names[info.task].setdefault(info.id, info.id)

    def names(self, verb: str) -> list[str]:
        """Models that serve a verb, the one to begin with first.

        Raises:
            InputError: there is no such verb, or no model for it.
        """
        if verb not in VERBS:
            raise InputError(
                f"{verb!r} is no task of this app{did_you_mean(verb, VERBS)}; there are: {', '.join(VERBS)}"
            )
        if not self._names[verb]:
            hints = ", ".join(dict.fromkeys(info.hint for info in models() if info.task == verb and info.hint))
            raise InputError(f"no model for {verb!r} is installed: {hints}")
        return list(self._names[verb])

    def task(self, verb: str, model: str | None = None) -> Any:
        """The task of a model of :meth:`names`, the first where none is named. Weights that do not come with the
        package are fetched when they are first asked for.

        Raises:
            ModelError: there is no such model, or its weights cannot be fetched.
        """
        names = self.names(verb)
        model = model or names[0]
        if model not in names:
            raise ModelError(f"{model!r} is not among the models of this app{did_you_mean(model, names)}")
        with self._lock:
            if (verb, model) not in self._loaded:
                if model in PULLED:
                    pull(model)
                self._loaded[verb, model] = load(self._names[verb][model], task=verb, device=self._device)
            return self._loaded[verb, model]

    def layers(self, verb: str, model: str) -> list[str]:
        """Layers of a model to choose from: its blocks, and the one that is explained by default. None before weights
        that do not come with the package have been fetched for an answer."""
        if model in PULLED and (verb, model) not in self._loaded:
            return []
        if (verb, model) not in self._layers:
            self._layers[verb, model] = blocks_of(self.task(verb, model))
        return self._layers[verb, model]
