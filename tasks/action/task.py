"""Action recognition: any module that maps clips to class scores, explained over space and time."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor, nn

from mmexplain.errors import InputError, LayerError, MethodError, ModelError
from mmexplain.explainer import explain, problem_of
from mmexplain.explanation import Explanation
from mmexplain.forward import model_runs
from mmexplain.methods.registry import DEFAULT_METHOD, select
from mmexplain.picture import Picture
from mmexplain.preprocess import PhotoPreprocess, Preprocess
from mmexplain.surroundings import require_ordinary, undisturbed
from mmexplain.taps import suggest
from mmexplain.targets import Kind, Target
from mmexplain.tasks.action.model import ActionModel
from mmexplain.tasks.action.windows import Stitch
from mmexplain.tasks.base import Batch
from mmexplain.tasks.classification.outputs import find_logits
from mmexplain.tasks.clips import Album, ClipTask, Sampling, Window, all_opened, choose_windows, stream_windows
from mmexplain.tasks.labels import Labels
from mmexplain.tasks.outcomes import Contrast, Link, Name, OutcomeTask, ScoreName, named
from mmexplain.video import Frame, Video

Choose = Callable[[Tensor], list[list[Target]]]


class Action(OutcomeTask, ClipTask):
    """A model that scores N actions for a clip.

    ``Action(model, transforms, labels, frames=16).explain("video.mp4")`` is all that a model of one's own needs.

    Args:
        model: maps ``[B, 3, T, h, w]`` to logits ``[B, N]``, or returns something that holds them (see
            :func:`~mmexplain.tasks.classification.outputs.find_logits`). It is left where it is and as it is.
        preprocess: one frame → tensor, with its geometry; or torchvision's evaluation transforms.
        labels: the N names of actions in the order of the outputs.
        frames: T, how many frames the model sees at once.
        stride: from one of them to the next, for videos without a clock or where ``frame_rate`` is None; 1 takes every
            frame of the video.
        frame_rate: frames a second that the model sees. Videos with a clock are shown to it with the stride that comes
            nearest, so that a window lasts as long whatever their own rate.
        layer: layer to explain by default; found by a look at the model if None.
        model_id: name of the model in what is shown and saved.
        link: how logits become probabilities, see :class:`~mmexplain.tasks.classification.Classifier`.
        min_frames: the smallest T that the model can run on.
        any_length: whether it runs on any T from there, or on ``frames`` alone.
    """

    name: ClassVar[str] = "action"
    kind: ClassVar[Kind] = "action"

    def __init__(
        self,
        model: nn.Module,
        preprocess: Any,
        labels: Sequence[str] | Mapping[int, str] | None = None,
        *,
        frames: int = 16,
        stride: int = 1,
        frame_rate: float | None = None,
        layer: str | None = None,
        model_id: str | None = None,
        link: Link | None = None,
        min_frames: int = 1,
        any_length: bool = True,
    ) -> None:
        if link is not None and link not in get_args(Link):
            raise InputError(f"unknown link {link!r}; there are: {', '.join(get_args(Link))}")
        if min(frames, stride) < 1:
            raise InputError(f"frames and stride are 1 or more, got frames={frames}, stride={stride}")
        if frame_rate is not None and not 0 < frame_rate < math.inf:
            raise InputError(f"frame_rate is frames a second, more than 0; got {frame_rate}")
        self.model = model
        self.model_id = model_id if model_id is not None else type(model).__name__
        if not isinstance(preprocess, PhotoPreprocess):
            preprocess = Preprocess.from_torchvision(preprocess)
        self.preprocess = preprocess
        self.labels = None
        if labels is not None:
            found = Labels.of(labels)
            self.labels = found if found is labels else Labels(found, noun=("action", "actions"))
        self.link = link
        self.frames, self.stride, self.frame_rate = frames, stride, frame_rate
        self._shortest = min_frames
        self._any_length = any_length
        self._layer = layer
        self._sha256: str | None = None

    @classmethod
    def of(cls, found: ActionModel) -> Action:
        """The task of a model that was loaded by its name."""
        task = cls(
            found.model,
            found.preprocess,
            found.labels,
            frames=found.frames,
            stride=found.stride,
            frame_rate=found.frame_rate,
            layer=found.layer,
            model_id=found.model_id,
            min_frames=found.min_frames,
            any_length=found.any_length,
        )
        task._sha256 = found.sha256
        return task

    # -- the model --------------------------------------------------------------------------------------------------

    def encode(self, inputs: dict[str, Tensor]) -> Tensor:
        """Logits ``[B, N]``.

        Raises:
            ModelError: the model fails on the clip, or puts out no class scores, or not as many as it has labels.
        """
        actions = None if self.labels is None else len(self.labels)
        logits = find_logits(self.outputs(inputs["clip"]), actions)
        if actions not in (None, logits.shape[1]) and not (actions == 2 and logits.shape[1] == 1):
            raise ModelError(f"model {self.model_id!r} scores {logits.shape[1]:,} actions but has {actions:,} labels")
        return logits

    def outputs(self, clip: Tensor) -> Any:
        """What the model puts out for clips ``[B, 3, T, h, w]``: logits, or something that holds them."""
        return self.model(clip)

    def default_layer(self) -> str:
        """The last layer that still has a grid, found by running the model once on an empty clip.

        Raises:
            LayerError: nothing in it puts out a grid.
        """
        if self._layer is None:
            empty = self.empty()
            try:
                with model_runs(empty.shape):
                    self._layer = suggest(self.model, lambda: self.outputs(empty), empty.shape[2:], self.reader)
            except LayerError as error:
                raise LayerError(f"model {self.model_id!r}: {error}") from None
        return self._layer

    def provenance(self) -> dict[str, Any]:
        """The model's class, its weights and what was done to each frame."""
        return super().provenance() | {"weights_sha256": self._sha256}

    # -- explaining -------------------------------------------------------------------------------------------------

    def explain(
        self,
        videos: Any,
        targets: Name | Sequence[Name] | None = None,
        *,
        top: int = 1,
        versus: Name | Sequence[Contrast] | None = None,
        frames: int | None = None,
        stride: int | None = None,
        sampling: Sampling = "auto",
        step: int | None = None,
        score: ScoreName = "logit",
        progress: Callable[[int, int], None] | None = None,
        **options: Any,
    ) -> Any:
        """Maps of one or more actions over space and time.

        The model sees ``frames`` frames at a time. Of a video that is longer, windows that slide over all of it are
        explained one after the other, in memory that does not grow with its length; the map of a frame is the mean over
        the windows that show it, and score and probability are means over all windows (those of each are in the
        provenance, as ``[first frame, last frame, score of each target]``). If no action is named, the likeliest ones
        of one window are read off the pass that explains it; of several, by the mean of their probabilities, they are
        found in a pass before, which takes the model's forward time once more.

        Args:
            videos: one video (see :func:`mmexplain.video.open_video`), or a list of videos. Photos that are the frames
                of one go through ``open_video([...])``.
            targets: names or numbers of actions; None explains the ``top`` likeliest.
            top: how many, if ``targets`` is None.
            versus: hold each target against this action ("drinking rather than eating"). Or pairs ``(action, other)``,
                whose contrasts are explained besides the named targets, or alone.
            frames: T instead of the task's own.
            stride: from one frame of a window to the next. By default, where the model's frame rate and the video's are
                known, what brings the one to the other (every fourth frame at 60 a second for a model that sees 15),
                otherwise the task's own.
            sampling: "windows" over the whole video (of a short one a single window), "dense": the window in the
                middle, "uniform": T frames spread over the video. "auto" is windows. A video shorter than a window
                holds its last frame.
            step: frames from the start of a window to that of the next; by default they do not overlap.
            score: what to differentiate: "logit" or "log-probability".
            progress: told how many windows of how many are done; counts both passes. Of a single window: how many
                changed inputs of how many, by methods that need many.
            options: ``layers``, ``methods``, ``strategy`` …: see :func:`mmexplain.explain`.

        Returns:
            An :class:`~mmexplain.explanation.Explanation`, or a list of them for a list of videos. Its maps are
            ``[K, t, h, w]`` at the layer's resolution, or for several windows ``[K, n, h, w]`` with one for each of
            the n frames that were shown to the model.

        Raises:
            TargetError: an action that the model does not have; the closest are offered.
            InputError: a video that cannot be read, or an option out of range.
            LayerError, MethodError, ModelError, DeviceError: see :func:`mmexplain.explain`.
        """
        wanted, against = named(self, targets, versus)
        if stride is not None and sampling == "uniform":
            raise InputError(f"sampling 'uniform' spreads the frames over the whole video: leave out stride={stride}")
        top = self.whole("top", top)
        if wanted is None and top < 1:
            raise InputError(f"cannot take the top {top} actions: ask for 1 or more")

        def choose(logits: Tensor) -> list[list[Target]]:
            rows = self.top(logits, top) if wanted is None else [wanted] * len(logits)
            if against is None:
                return rows
            return [[self.contrast(target, against) for target in row] for row in rows]

        several = isinstance(videos, (list, tuple))
        count = self._length(frames)
        options["score"] = self.score_named(score)
        found = []
        for video in all_opened(videos):
            every = self.stride_for(video) if stride is None else stride
            windows = choose_windows(video.n_frames, count, every, sampling, step)
            if len(windows) == 1:
                batch = self.prepare_window(video, windows[0])
                explanation = explain(self, batch, choose, progress=progress, **options)[0]
            else:
                explanation = self._over(video, windows, choose, wanted is None, progress, options)
            explanation.provenance["sampling"] = {
                "sampling": sampling,
                "n_windows": len(windows),
                "frames": count,
                "stride": None if sampling == "uniform" else every,
                "step": step,
                "video_rate": video.rate,
            }
            found.append(explanation)
        return found if several else found[0]

    def _length(self, frames: int | None) -> int:
        """How many frames the model is to see at once.

        Raises:
            InputError: it cannot see as many.
        """
        count = self.frames if frames is None else self.whole("frames", frames)
        if count < self._shortest or (count != self.frames and not self._any_length):
            takes = f"{self._shortest} frames or more" if self._any_length else f"clips of {self.frames} frames only"
            raise InputError(f"model {self.model_id!r} takes {takes}, not {count}")
        return count

    def _over(
        self,
        video: Video,
        windows: list[Window],
        choose: Choose,
        search: bool,
        progress: Callable[[int, int], None] | None,
        options: Mapping[str, Any],
    ) -> Explanation:
        """One explanation of all windows; ``search`` for the actions of the whole video first."""
        _require_small(options)
        started = time.perf_counter()
        done = itertools.count(1)

        def tell() -> None:
            if progress is not None:
                progress(next(done), len(windows) * (1 + search))

        targets: Choose | list[list[Target]] = choose
        if search:
            # What cannot be done (no such layer, NaN) is found out at the first window, and not after a whole pass.
            next(self._each(video, windows[:1], choose, options))
            targets = choose(self._mean_logits(video, windows, options.get("precision"), tell))
        stitch = Stitch(windows)
        album = Album(video, stitch.numbers)
        for explanation in self._each(video, windows, targets, options, album.see):
            stitch.add(explanation)
            tell()
        scores, probabilities = stitch.scores(), stitch.probabilities()
        spans = [[window[0], window[-1], *values] for window, values in zip(windows, scores.tolist(), strict=True)]
        return replace(
            explanation,
            scores=scores.mean(0),
            probabilities=None if probabilities is None else probabilities.mean(0),
            maps=stitch.maps(),
            geometry=explanation.geometry.sample(stitch.numbers, video.n_frames),
            picture=album.picture(),
            provenance=explanation.provenance | {"windows": spans},
            seconds=time.perf_counter() - started,
        )

    def _each(
        self,
        video: Video,
        windows: list[Window],
        targets: Choose | list[list[Target]],
        options: Mapping[str, Any],
        see: Callable[[Frame], None] | None = None,
    ) -> Generator[Explanation]:
        """The windows explained one after the other, without a picture; ``see`` is called with each frame."""
        like = self.like
        blank = Picture(torch.empty(0, 0, 0, 3, dtype=torch.uint8))
        for clip, geometry in stream_windows(video, windows, self.preprocess, see):
            batch = Batch({"clip": clip[None].to(like)}, geometries=[geometry], pictures=[blank])
            yield explain(self, batch, targets, **options)[0]

    def _mean_logits(
        self, video: Video, windows: list[Window], precision: str | None, tell: Callable[[], None]
    ) -> Tensor:
        """Logits ``[1, N]`` float64 whose probabilities are the means over the windows."""
        like = self.like
        require_ordinary(self.model)
        total: Tensor | None = None
        for clip, _ in stream_windows(video, windows, self.preprocess):
            with undisturbed(self.model, like.device), model_runs((1, *clip.shape)):
                problem = problem_of(self, Batch({"clip": clip[None].to(like)}), precision=precision)
                logits = problem.encode(problem.inputs).double().cpu()
            link = self._link(logits)
            values = logits.softmax(1) if link == "softmax" else logits.sigmoid() if link == "sigmoid" else logits
            total = values if total is None else total + values
            tell()
        assert total is not None
        mean = total / len(windows)
        return mean.log() if link == "softmax" else mean.logit() if link == "sigmoid" else mean


def _require_small(options: Mapping[str, Any]) -> None:
    """Raise if what was asked for cannot be kept when a video is explained in several windows."""
    one = "explain one window, with sampling='dense' or 'uniform'"
    for method in select(options.get("methods", (DEFAULT_METHOD,))):
        if method.at_layers:
            raise MethodError(f"{method.name!r} runs the model too often for a video of several windows; {one}")
        if method.space in ("pixel", "product", "probe"):
            raise MethodError(f"maps of {method.name!r} at every pixel of several windows would be too large; {one}")
    if options.get("create_graph"):
        raise InputError(f"maps over several windows of a video cannot be trained through; {one}")
