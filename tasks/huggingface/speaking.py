"""Captions and answers of transformers models: a map for every word and for every answer, over each photo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from mmexplain.errors import InputError, ModelError, TargetError
from mmexplain.io import Photo
from mmexplain.problem import Choice
from mmexplain.surroundings import undisturbed
from mmexplain.targets import Target, contrast
from mmexplain.tasks.base import Batch, Task, photos_of
from mmexplain.tasks.huggingface.checkpoint import Checkpoint
from mmexplain.tasks.huggingface.photo_task import OnPhoto
from mmexplain.tasks.huggingface.phrases import Said as Sentence
from mmexplain.tasks.huggingface.said import SCORES, ScoreName
from mmexplain.tasks.huggingface.speaker import Look, Speaker
from mmexplain.tasks.huggingface.speakers import speaker_of
from mmexplain.tasks.huggingface.words import locate, split

LONGEST = 64
"""Tokens that a model may say."""


class Speaking(Task):
    """What captions and answers share: a model that writes, and photos that are explained one by one, because each may
    have a grid, tiles and a prompt of its own.

    Args:
        speaker: the model's family.
    """

    name: ClassVar[str]
    one_by_one = True

    def __init__(self, speaker: Speaker) -> None:
        self.speaker = speaker
        self.model = speaker.model
        self.model_id = speaker.checkpoint.id

    def prepare(self, images: Any) -> Batch:
        """One photo as a batch; :meth:`on` gives the task that runs it."""
        return self.on(images).prepare()

    def encode(self, inputs: dict[str, Tensor]) -> Tensor:
        """Photos are read one by one, each with a grid and a prompt of its own: by the task that :meth:`on` gives."""
        raise InputError("a model that writes reads photos one by one: use explain, or on(photo)")

    def score(self, output: Any, targets: Sequence[Sequence[Target]]) -> Tensor:
        """See :meth:`encode`."""
        raise InputError("a model that writes reads photos one by one: use explain, or on(photo)")

    def default_layer(self) -> str:
        """As the family has it."""
        return self.speaker.layer()

    def black(self) -> Sequence[float]:
        """What a black pixel becomes: ``-mean / std`` of the image processor."""
        processor = self.speaker.checkpoint.image_processor
        if not getattr(processor, "do_normalize", False):
            return (0.0,)
        return [-mean / std for mean, std in zip(processor.image_mean, processor.image_std, strict=True)]

    def provenance(self) -> dict[str, Any]:
        """The model's class and the processor's."""
        kind, processor = type(self.model), self.speaker.checkpoint.image_processor
        return {
            "model_class": f"{kind.__module__}.{kind.__qualname__}",
            "image_processor": type(processor).__name__,
        }

    def before(self, photo: Photo, prompt: str, score: ScoreName = "log-probability", **options: Any) -> OnPhoto:
        """The model with a photo before it.

        Raises:
            InputError: the prompt is too long.
        """
        look = self.speaker.look(photo, prompt)
        self.speaker.room(look)
        return OnPhoto(self, photo, look, score, **options)

    def on(self, image: Any) -> OnPhoto:
        """The model with a photo before it, and nothing asked: to look at its layers."""
        photos = photos_of(image)
        if len(photos) != 1:
            raise InputError(f"{self.model_id!r} prepares photos one by one, not {len(photos)}: use explain")
        return self.before(photos[0], self.speaker.asked)

    def says(self, look: Look, beam: int, longest: int) -> list[int]:
        """What the model says of a photo, without its end.

        Raises:
            ModelError: nothing.
        """
        room = self.speaker.room(look)
        longest = longest if room is None else min(longest, room)
        with undisturbed(self.model, self.speaker.device):
            found = self.speaker.generate(look, beam, longest)
        if not found:
            raise ModelError(f"model {self.model_id!r} says nothing of the photo; give a text to be scored")
        return found

    def choice(
        self, targets: Sequence[Target], texts: Sequence[Sequence[int]], spans: Sequence[tuple[int, int]]
    ) -> dict[str, Tensor]:
        """The tensors that :class:`OnPhoto` reads: texts ``said [1, A, T]`` and word ``spans [1, W, 2]``. Tokens after
        the last one that is scored are left out of a single text."""
        longest = max(map(len, texts))
        padded = [[*text, *[self.speaker.end] * (longest - len(text))] for text in texts]
        device = self.speaker.device
        return {
            "said": torch.tensor([padded], device=device),
            "spans": torch.tensor([list(spans) or [(0, 0)]], device=device),
        }


class Captioning(Speaking):
    """A model that describes a photo: a map for every word of its caption, or of one that it is given.

    The score of a word is the sum of the log-probabilities of its tokens, given the words before.
    """

    name: ClassVar[str] = "caption"
    prompted: ClassVar[bool] = True

    def explain(
        self,
        images: Any,
        caption: str | Sequence[str] | None = None,
        *,
        prompt: str | None = None,
        words: str | Sequence[str] | None = None,
        whole: bool = False,
        versus: Mapping[str, str] | None = None,
        score: ScoreName = "log-probability",
        beam: int = 1,
        max_length: int = LONGEST,
        **options: Any,
    ) -> Any:
        """A map for every word over each photo. One forward pass of the text part serves all words.

        Args:
            images: one photo, or a list of photos, which are explained one by one.
            caption: what to score; for a list of photos, one for each. None lets the model speak.
            prompt: what the model is asked, or how its caption begins; the family's own if None.
            words: words and phrases of the caption to explain, or one of them; None explains every word.
            whole: explain the caption as a whole too, its end included.
            versus: word → another that could stand in its place; adds the contrast of the two.
            score: what to differentiate: "log-probability" (summed over a word's tokens), "mean-log-probability"
                (divided by their number) or "logit".
            beam: width of the model's own search.
            max_length: most tokens that the model may say.
            options: ``layers``, ``methods``, ``text``, ``strategy`` …: see :func:`mmexplain.explain`.

        Returns:
            An :class:`~mmexplain.explanation.Explanation`, or a list of them for a list of photos.

        Raises:
            TargetError: a word that the caption does not hold, or a text that the tokenizer cannot spell.
            InputError: a photo that cannot be read, a prompt that is too long, or an option out of range.
            LayerError, MethodError, ModelError, DeviceError: see :func:`mmexplain.explain`.
        """
        several = isinstance(images, (list, tuple))
        _check(score, beam, max_length)
        photos = photos_of(images)
        captions = _each(caption, len(photos), "caption")
        asked = self.speaker.asked if prompt is None else prompt
        found = []
        for photo, own in zip(photos, captions, strict=True):
            task, choice = self._chosen(photo, own, asked, words, whole, versus, score, beam, max_length)
            found.append(task.explained(choice, **options))
        return found if several else found[0]

    def chosen(self, image: Any) -> tuple[OnPhoto, Choice]:
        """The model with a photo before it, and what :meth:`explain` explains if it is told nothing else."""
        (photo,) = photos_of(image)
        return self._chosen(photo, None, self.speaker.asked, None, False, None, "log-probability", 1, LONGEST)

    def _chosen(
        self,
        photo: Photo,
        caption: str | None,
        prompt: str,
        words: str | Sequence[str] | None,
        whole: bool,
        versus: Mapping[str, str] | None,
        score: ScoreName,
        beam: int,
        longest: int,
    ) -> tuple[OnPhoto, Choice]:
        task = self.before(photo, prompt, score)
        ids = self.says(task.look, beam, longest) if caption is None else self._tokens(caption, task.look)
        sentence = Sentence(self.speaker, ids, task.look)
        targets = sentence.targets(words, whole, versus)
        first = self.speaker.first_place(task.look)
        task.words = [range(first + word.start, first + word.stop) for word in sentence.words]
        spans = [(word.start, word.stop) for word in sentence.words]
        context = self.choice(targets, sentence.texts(targets), spans)
        return task, Choice([targets], context, [sentence.text], [[word.text for word in sentence.words]])

    def _tokens(self, caption: str, look: Look) -> list[int]:
        if not split(caption):
            raise InputError(f"the caption {caption!r} holds no word; write one, or leave it out to have one made")
        ids = self.speaker.tokens(caption, look.prompt[0].tolist())
        self.speaker.fits(ids, caption, look)
        return ids


class Answering(Speaking):
    """A model that answers a question in its own words: a map for its answer, and for those it is made to consider.

    The score of an answer is the log-probability of all of its tokens, without its end.
    """

    name: ClassVar[str] = "vqa"

    def explain(
        self,
        images: Any,
        question: str | Sequence[str],
        answers: str | Sequence[str] | None = (),
        *,
        versus: str | Sequence[tuple[str, str] | tuple[str, str, float]] | None = (),
        top: int | None = None,
        score: ScoreName = "log-probability",
        text: str | Sequence[str] = (),
        beam: int = 1,
        max_length: int = LONGEST,
        **options: Any,
    ) -> Any:
        """A map for every answer over each photo and, if asked for, what each word of the question added to it.

        Args:
            images: one photo, or a list of photos, which are explained one by one.
            question: what is asked; for a list of photos, one for all of them or one for each.
            answers: answers that the model is made to consider, in any words.
            versus: pairs of answers; each adds the contrast of the two, or, with a third number w, of the one and w of
                the other. Or one answer, which all are held against.
            top: 1 for the model's own answer besides, 0 without it; None means 1.
            score: what to differentiate: "log-probability" (summed over the answer's tokens), "mean-log-probability"
                (divided by their number, for answers of unlike length) or "logit".
            text: methods for the question's words, or ``"all"``.
            beam: width of the model's own search.
            max_length: most tokens that the model may say.
            options: ``layers``, ``methods``, ``strategy`` …: see :func:`mmexplain.explain`.

        Returns:
            An :class:`~mmexplain.explanation.Explanation`, or a list of them for a list of photos.

        Raises:
            TargetError: an answer that is empty or holds what the tokenizer does not know.
            InputError: a photo that cannot be read, a question that is too long, or an option out of range.
            LayerError, MethodError, ModelError, DeviceError: see :func:`mmexplain.explain`.
        """
        several = isinstance(images, (list, tuple))
        _check(score, beam, max_length)
        if top not in (None, 0, 1):
            raise TargetError(f"top={top}: a model that writes has one answer of its own; name others with answers=…")
        photos = photos_of(images)
        if question is None or isinstance(question, str):
            question = [question] * len(photos)
        found = []
        for photo, asked in zip(photos, _each(question, len(photos), "question"), strict=True):
            task, choice = self._chosen(photo, asked, answers, versus, top, score, beam, max_length)
            found.append(task.explained(choice, text=text, **options))
        return found if several else found[0]

    def chosen(self, image: Any, question: str) -> tuple[OnPhoto, Choice]:
        """The model with a photo before it, and what :meth:`explain` explains if it is told nothing but a question."""
        (photo,) = photos_of(image)
        return self._chosen(photo, question, (), (), None, "log-probability", 1, LONGEST)

    def reads(self, question: str) -> bool:
        """Whether a question holds a word."""
        return bool(split(question))

    def _chosen(
        self,
        photo: Photo,
        question: str | None,
        answers: str | Sequence[str] | None,
        versus: str | Sequence[tuple[str, str] | tuple[str, str, float]] | None,
        top: int | None,
        score: ScoreName,
        beam: int,
        longest: int,
    ) -> tuple[OnPhoto, Choice]:
        if question is None or not split(question):
            raise InputError("there is no question; ask something, such as 'what is the dog doing'")
        task = self.before(photo, self.speaker.question.format(question), score)
        named = [answers] if isinstance(answers, (str, Target)) else list(answers or ())
        targets = [self.target(answer, task.look) for answer in named]
        pairs = [] if versus is None or isinstance(versus, str) else [*versus]
        targets += [
            _contrast(self.target(one, task.look), self.target(other, task.look), *weight)
            for one, other, *weight in pairs
        ]
        if top != 0 and not (top is None and targets and pairs and not named):
            said = self.says(task.look, beam, longest)
            targets.insert(0, Target(Sentence(self.speaker, said, task.look).text, "answer", tuple(said)))
        if isinstance(versus, str):
            against = self.target(versus, task.look)
            targets = [_contrast(target, against) for target in targets if target.ids != against.ids]
        targets = list({(target.ids, target.versus, target.weight): target for target in targets}.values())
        if not targets:
            raise TargetError("no answer to explain: name one (--answer), or let the model give its own (--top 1)")
        words = locate(self.speaker.tokenizer, task.look.prompt[0].tolist(), question)
        task.words = [range(word.start, word.stop) for word in words]
        # A text for each answer: all are read in one pass.
        texts = list(dict.fromkeys(side.ids for target in targets for side in _sides(target)))
        shown = [word.text for word in words] or split(question)
        return task, Choice([targets], self.choice(targets, texts, []), [question], [shown])

    def target(self, answer: str | Target, look: Look) -> Target:
        """An answer in any words, after a look's prompt.

        Raises:
            TargetError: it is empty, no text, or holds what the tokenizer does not know.
            InputError: it is too long.
        """
        if isinstance(answer, Target):
            return answer
        if not isinstance(answer, str) or not answer.strip():
            raise TargetError(f"the answer {answer!r} is empty: write one")
        ids = self.speaker.tokens(answer, look.prompt[0].tolist())
        self.speaker.fits(ids, answer, look)
        return Target(answer, "answer", tuple(ids))


def captioner(checkpoint: Checkpoint) -> Captioning:
    """The task of a model that describes photos."""
    return Captioning(speaker_of(checkpoint))


def answerer(checkpoint: Checkpoint) -> Answering:
    """The task of a model that answers questions in words of its own."""
    return Answering(speaker_of(checkpoint))


def _sides(target: Target) -> list[Target]:
    return [target] if target.versus is None else [target, target.versus]


def _contrast(target: Target, versus: Target, weight: float = 1.0) -> Target:
    if target.ids == versus.ids:
        raise TargetError(f"{target.label!r} cannot be held against itself: name another answer")
    return contrast(target, versus, weight)


def _each(texts: str | Sequence[str | None] | None, count: int, noun: str) -> list[str | None]:
    if texts is None:
        return [None] * count
    listed: list[str | None] = [texts] if isinstance(texts, str) else list(texts)
    if len(listed) != count:
        raise InputError(f"{len(listed)} {noun}(s) for {count} photo(s)")
    return listed


def _check(score: str, beam: int, longest: int) -> None:
    if score not in SCORES:
        raise InputError(f"unknown score {score!r}; there are: {', '.join(map(repr, SCORES))}")
    if beam < 1:
        raise InputError(f"a search needs a beam of at least 1, not {beam}")
    if longest < 1:
        raise InputError(f"max_length={longest}: let the model say 1 token or more")
