"""The models of the app: each is loaded once, when it is first asked for, and shared by everybody."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Any

from mmexplain.errors import InputError, ModelError, did_you_mean
from mmexplain.layer_analysis import blocks_of
from mmexplain.tasks.registry import DEFAULTS, PULLED, load, models, pull

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
        self._loaded: dict[tuple[str, str], Any] = {}
        self._layers: dict[tuple[str, str], list[str]] = {}
        self._lock = Lock()
        self._names: dict[str, list[str]] = {verb: [] for verb in VERBS}
        for identifier in named:
            wanted, _, model = (
                identifier.rpartition("=") if identifier.partition("=")[0] in VERBS else ("", "", identifier)
            )
            task = load(model, task=wanted or None, device=device)
            self._loaded[task.name, model] = task
            self._names[task.name].append(model)
        for info in models():
            bundled = (info.available and info.size is not None) or info.id in PULLED
            if bundled and info.id not in self._names[info.task]:
                self._names[info.task].append(info.id)

    def names(self, verb: str) -> list[str]:
        """Models that serve a verb, the one to begin with first.

        Raises:
            InputError: there is no such verb.
        """
        if verb not in VERBS:
            raise InputError(
                f"{verb!r} is no task of this app{did_you_mean(verb, VERBS)}; there are: {', '.join(VERBS)}"
            )
        own = self._names[verb]
        return sorted(own, key=lambda name: name != DEFAULTS[verb]) if (verb, own[0]) not in self._loaded else own

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
                self._loaded[verb, model] = load(model, task=verb, device=self._device)
            return self._loaded[verb, model]

    def layers(self, verb: str, model: str) -> list[str]:
        """Layers of a model to choose from: its blocks, and the one that is explained by default. None before weights
        that do not come with the package have been fetched for an answer."""
        if model in PULLED and (verb, model) not in self._loaded:
            return []
        if (verb, model) not in self._layers:
            self._layers[verb, model] = blocks_of(self.task(verb, model))
        return self._layers[verb, model]
