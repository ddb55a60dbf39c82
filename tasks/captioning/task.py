"""Captioning: every word of a caption is a target of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from mmexplain.errors import InputError, ModelError
from mmexplain.explainer import explain
from mmexplain.explanation import Explanation
from mmexplain.preprocess import Preprocess
from mmexplain.problem import Choice, PooledVJP
from mmexplain.surroundings import undisturbed
from mmexplain.taps import suggest
from mmexplain.targets import Target
from mmexplain.tasks.base import Batch, PhotoTask, contrasted, evenly, probabilities_of
from mmexplain.tasks.captioning.captioner import DecoderOutput
from mmexplain.tasks.captioning.checkpoint import sha256
from mmexplain.tasks.captioning.phrases import Phrasing
from mmexplain.tasks.captioning.search import Trace, alternatives, beam_search
from mmexplain.transfer import sent

MAX_LENGTH = 20
"""Words at which a search gives up waiting for the end of a caption."""


class Captioning(PhotoTask):
    """A captioner, its photos and the words it says.

    The score of a word is its logit given the words before it; of a span, their sum; of a contrast, the difference at
    the same place; of the whole caption, its log-probability. All come from one teacher-forced pass over the caption.
    Words can be scored by their log-probability too, but that also rewards evidence against other words, and in the
    bundled models its maps lie on the thing less often (see the model cards).

    Args:
        captioner: one of the bundled models, or a user's
            :class:`~mmexplain.tasks.captioning.captioner.CaptionerAdapter`.
        preprocess: photo → tensor, with its geometry.
        layer: layer to explain by default; found by a look at the encoder if None.
        model_id: name of the model in what is shown and saved.
        weights: file that the captioner came from, for the record of what was explained.
    """

    name: ClassVar[str] = "caption"

    def __init__(
        self,
        captioner: nn.Module,
        preprocess: Preprocess,
        *,
        layer: str | None = None,
        model_id: str | None = None,
        weights: Path | None = None,
    ) -> None:
        self.model = captioner
        self.captioner = cast(Any, captioner)
        self.preprocess = preprocess
        self.model_id = model_id if model_id is not None else type(captioner).__name__
        self.phrasing = Phrasing(self.captioner.vocabulary)
        self._layer = layer
        self._weights = None if weights is None else sha256(weights)

    # -- the model --------------------------------------------------------------------------------------------------

    def encode(self, inputs: dict[str, Tensor]) -> Tensor:
        """Features of the photos, ``[B, ...]``."""
        features: Tensor = self.captioner.encode(inputs["image"])
        return features

    def decode(self, features: Tensor, context: dict[str, Tensor]) -> DecoderOutput:
        """Teacher forcing over ``context["tokens"] [R, T]``."""
        output = self.captioner.decode(features, context["tokens"])
        return DecoderOutput(output) if isinstance(output, Tensor) else output

    def pooled_vjp(self, features: Tensor, context: dict[str, Tensor], begun: Any = None) -> PooledVJP | None:
        """The captioner's own way back, if it has one."""
        offered = getattr(self.captioner, "pooled_vjp", None)
        return None if offered is None else offered(features, context["tokens"], begun)

    def generate(self, features: Tensor, beam: int, max_length: int = MAX_LENGTH) -> list[list[int]]:
        """The best caption of each photo, without its end token."""
        return self._searched(features, beam, max_length)[0]

    def _searched(self, features: Tensor, beam: int, max_length: int) -> tuple[list[list[int]], Trace | None]:
        if hasattr(self.captioner, "generate"):
            return self.captioner.generate(features, beam, max_length), None
        trace = Trace()
        return [found.tokens for found in beam_search(self.captioner, features, beam, max_length, trace)], trace

    def alternatives(self, image: Any, beam: int = 3, max_length: int = MAX_LENGTH) -> list[tuple[str, float]]:
        """The captions that a search finds for one photo, the best first.

        Args:
            image: the photo.
            beam: width of the search, and about how many captions it finds.
            max_length: most words of a caption.

        Returns:
            For each its text and its log-probability per word, the end counted as one, which captions compete by.

        Raises:
            InputError: the photo cannot be read, or a beam below 1.
            ModelError: the captioner has a search of its own, which finds one caption.
        """
        if beam < 1:
            raise InputError(f"a search needs a beam of at least 1, not {beam}")
        if hasattr(self.captioner, "generate"):
            raise ModelError(f"model {self.model_id!r} searches by itself and tells one caption only")
        with undisturbed(self.model, self.device), torch.no_grad():
            (found,) = alternatives(self.captioner, self.encode(self.prepare(image).inputs), beam, max_length)
        names = self.captioner.vocabulary.tokens
        return [(" ".join(names[token] for token in caption.tokens), caption.per_token) for caption in found]

    def default_layer(self) -> str:
        """The last layer of the encoder that still has a grid, found by running it once on an empty photo."""
        if self._layer is None:
            empty = self.empty()
            self._layer = suggest(self.model, lambda: self.captioner.encode(empty), self.preprocess.size)
        return self._layer

    def text_layer(self) -> str | None:
        """What embeds the words said before, if the captioner names it."""
        layer: str | None = getattr(self.captioner, "embedding", None)
        return layer

    def text_places(self, target: Target, count: int) -> Sequence[int]:
        """The words before a word or a phrase; for a whole caption, whose words lead to each other and to its end, all
        of them."""
        first = getattr(self.captioner, "first_word", 1)
        read = count if target.kind == "caption" else target.index or 0
        return range(first, first + read)

    def provenance(self) -> dict[str, Any]:
        """The model's class, what was done to the photo, and the sha256 of the weights' file if there was one."""
        weights = {} if self._weights is None else {"weights_sha256": self._weights}
        return {**super().provenance(), **weights}

    # -- scores -----------------------------------------------------------------------------------------------------

    def score(self, output: DecoderOutput, targets: Sequence[Sequence[Target]]) -> Tensor:
        """Logits ``[R, K]`` of words, their sums for spans, log-probabilities of whole captions. Only the steps that
        are scored are projected onto the vocabulary."""
        return self._contrasted(output, targets, normalize=False)

    def log_probability(self, output: DecoderOutput, targets: Sequence[Sequence[Target]]) -> Tensor:
        """Log-probabilities ``[R, K]`` of words, spans and captions; the other score to differentiate."""
        return self._contrasted(output, targets, normalize=True)

    def probability(self, output: DecoderOutput, targets: Sequence[Sequence[Target]]) -> Tensor:
        """Probabilities ``[R, K]``: of a span the product of its words', of a contrast that of what was said if it is
        that or the other."""
        return probabilities_of(self._contrasted(output, evenly(targets), normalize=True), targets)

    def logits(self, output: DecoderOutput, targets: Sequence[Sequence[Target]]) -> Tensor:
        """Logits over the vocabulary ``[R, K, V]`` at each target's (first) word."""
        places = sent([[target.index or 0 for target in row] for row in targets], output.hidden.device)
        rows = torch.arange(len(targets), device=places.device)[:, None]
        logits: Tensor = self.captioner.project(output.hidden[rows, places])
        return logits.float()

    def attention(self, output: DecoderOutput, targets: Sequence[Sequence[Target]]) -> Tensor | None:
        """The model's own attention ``[R, K, h, w]``, averaged over a target's words; None without attention."""
        if output.attention is None:
            return None
        steps = output.attention.shape[1]
        maps = [
            torch.stack([output.attention[r, start : min(stop, steps)].mean(0) for start, stop in spans])
            for r, spans in enumerate([[target.span or (0, steps) for target in row] for row in targets])
        ]
        return torch.stack(maps)

    def _contrasted(self, output: DecoderOutput, targets: Sequence[Sequence[Target]], *, normalize: bool) -> Tensor:
        def scored(rows: Sequence[Sequence[Target]]) -> Tensor:
            return self._sum_of_steps(output, rows, normalize=normalize)

        return contrasted(targets, scored)

    def _sum_of_steps(self, output: DecoderOutput, targets: Sequence[Sequence[Target]], *, normalize: bool) -> Tensor:
        """``[R, K]`` sums over each target's words; ``normalize`` makes log-probabilities of the logits."""
        count = len(targets[0])
        steps = [
            (r, (target.index or 0) + offset, token, r * count + k, target.kind == "caption")
            for r, row in enumerate(targets)
            for k, target in enumerate(row)
            for offset, token in enumerate(target.ids)
        ]
        rows, places, tokens, slots, whole = sent(steps, output.hidden.device).unbind(1)
        known = [logits for scored, logits in output.projected if scored is targets]
        logits = known[0] if known else self.captioner.project(output.hidden[rows, places]).float()
        output.projected[:] = [(targets, logits)]
        each = logits.gather(1, tokens[:, None])[:, 0]
        if normalize or any(step[-1] for step in steps):
            normalizer = logits.logsumexp(-1)
            each = each - (normalizer if normalize else torch.where(whole.bool(), normalizer, 0.0))
        total = torch.zeros(len(targets) * count, device=each.device, dtype=each.dtype)
        return total.index_add(0, slots, each).view(len(targets), count)

    # -- explaining -------------------------------------------------------------------------------------------------

    def explain(
        self,
        images: Any,
        caption: str | Sequence[str] | None = None,
        *,
        words: str | Sequence[str] | None = None,
        whole: bool = False,
        versus: Mapping[str, str] | None = None,
        score: Literal["logit", "log-probability"] = "logit",
        beam: int = 3,
        max_length: int = MAX_LENGTH,
        **options: Any,
    ) -> Any:
        """A map for every word over each photo.

        The encoder runs once: the search for a caption and the explanation share its features.

        Args:
            images: one photo, a list of photos, or what ``prepare`` made of one.
            caption: what to score; for a list of photos, one for each. None lets the model speak.
            words: words and phrases of the caption to explain, or one of them; None explains every word.
            whole: explain the caption as a whole too.
            versus: word → another that could stand in its place; adds the contrast of the two.
            score: what to differentiate for a word: its logit or its log-probability.
            beam: width of the search.
            max_length: most words that the model may say.
            options: ``layers``, ``methods``, ``text``, ``strategy`` …: see :func:`mmexplain.explain`.

        Returns:
            An :class:`~mmexplain.explanation.Explanation`, or a list of them for a list of photos.

        Raises:
            TargetError: a word that the model does not know or the caption does not hold; the closest are offered.
            InputError: a photo that cannot be read, or an option out of range.
            LayerError, MethodError, ModelError, DeviceError: see :func:`mmexplain.explain`.
        """
        several = isinstance(images, list | tuple | Batch)
        if beam < 1:
            raise InputError(f"a search needs a beam of at least 1, not {beam}")
        if score not in ("logit", "log-probability"):
            raise InputError(f"unknown score {score!r}; there are: 'logit', 'log-probability'")
        given = None
        if caption is not None:
            captions = [caption] if isinstance(caption, str) else list(caption)
            given = [self.phrasing.read(text) for text in captions]
            if len(given) != (len(images) if several else 1):
                raise InputError(f"{len(given)} caption(s) for {len(images) if several else 1} photo(s)")
        batch = self.prepare(images)

        def choose(features: Tensor) -> Choice:
            spoken, trace = (given, None) if given is not None else self._searched(features, beam, max_length)
            if not all(spoken):
                raise ModelError(f"model {self.model_id!r} has no word for the photo; give a caption to be scored")
            rows = [self.phrasing.targets(tokens, words, whole, versus) for tokens in spoken]
            said = [[self.captioner.vocabulary.tokens[token] for token in tokens] for tokens in spoken]
            texts = [" ".join(row) for row in said]
            return Choice(rows, {"tokens": self._tokens(spoken, rows)}, texts, said, trace)

        found: list[Explanation] = explain(
            self, batch, choose, score=self.score if score == "logit" else self.log_probability, **options
        )
        return found if several else found[0]

    def _tokens(self, spoken: Sequence[Sequence[int]], rows: Sequence[Sequence[Target]]) -> Tensor:
        """``[B, T]`` token numbers, padded with the end token; steps after the last scored word are left out."""
        last = max(target.span[1] for row in rows for target in row if target.span)
        end = self.captioner.vocabulary.end
        padded = [[*tokens, *[end] * (last - len(tokens))][:last] for tokens in spoken]
        return sent(padded, self.device)
