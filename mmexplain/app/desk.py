"""Answering what is asked, with progress, an end when it is called off, and a time limit."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass, replace
from threading import Event
from typing import Any, TypeVar

from PIL import Image, UnidentifiedImageError

from mmexplain.app.asked import PLACES, Asked
from mmexplain.app.shelf import Shelf
from mmexplain.errors import InputError, MMExplainError
from mmexplain.evaluate.randomisation import quick
from mmexplain.explanation import Explanation
from mmexplain.io import Photo, load_image
from mmexplain.layer_analysis import layers_report
from mmexplain.layer_report import LayersReport
from mmexplain.tasks.captioning import Captioning
from mmexplain.tasks.vqa import VQA
from mmexplain.video import open_video

SECONDS = 300
"""Time after which a request is called off: a shared machine is for everybody."""

MOST_PIXELS = 64_000_000
"""Of a photo: more would take more memory than a request is given."""

MOST_FRAME_PIXELS = 9_000_000
MOST_FRAMES = 20_000
"""Of a clip."""

MOST_CAPTIONS = 5

Made = TypeVar("Made")
Progress = Callable[[int, int], None]


class Stopped(MMExplainError):
    """A request that was called off, or took too long."""


def told(error: Exception) -> str:
    """What people are told of an error: how to mend it; of a fault of the program's only that the log has it. Called
    where the error is caught."""
    if isinstance(error, MMExplainError):
        return str(error)
    if isinstance(error, MemoryError):
        return "out of memory: take a smaller photo, or fewer methods and targets"
    logging.getLogger(__name__).exception("a request to the app failed")
    return "this went wrong inside mmexplain; the server's log says where"


@dataclass(frozen=True)
class Alternative:
    """A caption that the model considered.

    Attributes:
        text: the caption.
        per_word: its log-probability per word, which captions compete by.
        explanation: its words' maps.
    """

    text: str
    per_word: float
    explanation: Explanation


class Desk:
    """Explains with the models of a shelf, one request after the other, all in one thread: two at once would take twice
    the memory and be no faster, and torch keeps buffers for every thread that it ever ran in.

    Args:
        shelf: the models that may be asked.
        seconds: after which a request is called off.
    """

    def __init__(self, shelf: Shelf, seconds: float = SECONDS) -> None:
        self.shelf = shelf
        self._seconds = seconds
        self._worker = ThreadPoolExecutor(1, "mmexplain-desk")
        self._closed = Event()

    def close(self) -> None:
        """Call off what is being done, and take nothing more."""
        self._closed.set()
        self._worker.shutdown(wait=True, cancel_futures=True)

    def explain(self, asked: Asked, progress: Progress | None = None, stop: Event | None = None) -> Explanation:
        """What was asked for.

        Args:
            asked: as people wrote it; it is checked here.
            progress: told how many steps of how many are done, by what takes long.
            stop: set by another thread to call the request off; looked at before each step.

        Raises:
            MMExplainError: in one line what cannot be done, and how to mend it; :class:`Stopped` if it was called off.
        """
        return self._alone(lambda: self._explain(asked, progress, stop))

    def _explain(self, asked: Asked, progress: Progress | None, stop: Event | None) -> Explanation:
        with _by_name(asked):
            asked = asked.checked()
            step = self._watched(progress, stop)
            task = self.shelf.task(asked.verb, asked.model)
            source: Any = _clip(asked.source) if asked.verb == "action" else _photo(asked.source)
            if isinstance(task, Captioning | VQA) and task.text_layer() is None:
                asked = replace(asked, reads=False)
            places, told = asked.arguments()
            step(0, 1)
            explanation: Explanation = task.explain(source, *places, **told, progress=step)
            if asked.sanity:
                step(0, 1)
                named = dict(zip(PLACES[asked.verb], places, strict=False))
                verdicts = quick(task, source, explanation, **named, **told, progress=step)
                explanation.provenance["sanity"] = [verdict.to_json() for verdict in verdicts]
        return _named(explanation, asked)

    def alternatives(self, asked: Asked, count: int = 3, stop: Event | None = None) -> list[Alternative]:
        """Captions that the model's search found for a photo, the best first, each explained.

        Raises:
            MMExplainError: as :meth:`explain`; the model tells one caption only.
        """
        return self._alone(lambda: self._alternatives(asked, count, stop))

    def _alternatives(self, asked: Asked, count: int, stop: Event | None) -> list[Alternative]:
        with _by_name(asked):
            asked = replace(asked, text="", targets=(), versus=(), sanity=False).checked()
            step = self._watched(None, stop)
            task = self.shelf.task("caption", asked.model)
            photo = _photo(asked.source)
            if not hasattr(task, "alternatives"):
                raise InputError(f"model {asked.model!r} tells one caption only")
            # The model's own caption comes first, which a search of another width need not find.
            own = task.alternatives(photo)[0]
            others = task.alternatives(photo, beam=max(1, min(count, MOST_CAPTIONS)))
            found = [own, *(caption for caption in others if caption[0] != own[0])][:count]
            told = {"methods": list(asked.methods[:1]), "layers": list(asked.layers[:1]) or None, "progress": step}
            answers = []
            for number, (text, per_word) in enumerate(found):
                step(number, len(found))
                answers.append(Alternative(text, per_word, _named(task.explain(photo, text, **told), asked)))
        return answers

    def layers(
        self,
        asked: Asked,
        blocks: bool = False,
        progress: Progress | None = None,
        stop: Event | None = None,
    ) -> LayersReport:
        """Maps at the stages of a network, or at all of its blocks.

        Raises:
            MMExplainError: as :meth:`explain`; nothing is known of the model's stages.
        """
        return self._alone(lambda: self._compare(asked, blocks, progress, stop))

    def _compare(self, asked: Asked, blocks: bool, progress: Progress | None, stop: Event | None) -> LayersReport:
        with _by_name(asked):
            asked = asked.checked()
            if asked.verb == "action":
                raise InputError("layers are compared on photos: choose a model for photos")
            step = self._watched(progress, stop)
            task = self.shelf.task(asked.verb, asked.model)
            told: dict[str, Any] = {"question": asked.text} if asked.verb == "vqa" else {}
            told |= {"caption": asked.text} if asked.verb == "caption" and asked.text else {}
            photo = _photo(asked.source)
            step(0, 1)
            targets: Sequence[str] | None = asked.targets or None
            layers = asked.layers or ("blocks" if blocks else None)
            told |= {"method": asked.methods[0], "layers": layers, "progress": step}
            report = layers_report(task, photo, targets, **told)
        return replace(report, explanation=_named(report.explanation, asked))

    def answers_of(self, model: str | None = None) -> list[str]:
        """What a VQA model can answer; nothing for models that answer in any words, or that cannot be loaded."""
        try:
            labels = self._alone(lambda: self.shelf.task("vqa", model).labels)
        except MMExplainError:
            return []
        return [] if labels is None else [labels.shown(number) for number in range(len(labels))]

    def layers_of(self, verb: str, model: str) -> list[str]:
        """Layers of a model to choose from; none of one that cannot be loaded, or whose weights are not here yet."""
        try:
            return self._alone(lambda: self.shelf.layers(verb, model))
        except MMExplainError:
            return []

    def _alone(self, work: Callable[[], Made]) -> Made:
        """Do ``work`` in the one thread; what is known of the caller (Gradio's progress) is known there too."""
        return self._worker.submit(copy_context().run, work).result()

    def _watched(self, progress: Progress | None, stop: Event | None) -> Progress:
        """``progress``, which calls the request off where it must end."""
        end = time.monotonic() + self._seconds

        def step(done: int, total: int) -> None:
            if self._closed.is_set() or (stop is not None and stop.is_set()):
                raise Stopped("stopped")
            if time.monotonic() > end:
                raise Stopped(
                    f"stopped after {self._seconds:.0f} s, the app's limit; ask for less, or use the command line"
                )
            if progress is not None and total > 1:  # one step tells nothing
                progress(done, total)

        return step


def _photo(path: str) -> Photo:
    """The photo, if it can be decoded in the memory that a request has; its header tells."""
    with suppress(UnidentifiedImageError, OSError, ValueError, SyntaxError), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(path) as image:
                pixels = image.width * image.height
        except Image.DecompressionBombError:
            pixels = MOST_PIXELS + 1
        if pixels > MOST_PIXELS:
            raise InputError(f"{path!r} has more than {MOST_PIXELS // 10**6} megapixels; make it smaller")
    return load_image(path)


@contextmanager
def _by_name(asked: Asked) -> Iterator[None]:
    """Messages call a file what people call it, not by its place on the server."""
    try:
        yield
    except MMExplainError as error:
        if not asked.source or asked.source not in str(error):
            raise
        raise type(error)(str(error).replace(asked.source, asked.name)) from None


def _clip(path: str) -> Any:
    """The clip, if its frames can be held in the memory that a request has."""
    video = open_video(path)
    height, width = video.size
    if height * width > MOST_FRAME_PIXELS or video.n_frames > MOST_FRAMES:
        raise InputError(
            f"{path!r} has {video.n_frames:,} frames of {width}×{height}; the app takes up to {MOST_FRAMES:,} frames "
            f"of {MOST_FRAME_PIXELS // 10**6} megapixels, the command line more"
        )
    return video


def _named(explanation: Explanation, asked: Asked) -> Explanation:
    explanation.model = asked.model
    explanation.picture = replace(explanation.picture, source=asked.name)
    return explanation
