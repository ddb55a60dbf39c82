"""Hierarchical question-image co-attention (Lu, Yang, Batra & Parikh, NIPS 2016, arXiv:1606.00061)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexplain.tasks.captioning.encoder import GridEncoder
from mmexplain.tasks.captioning.vocabulary import Vocabulary

from .answering import VQAOutput, real_words

GRAMS = (1, 2, 3)
LEVELS = ("word", "phrase", "question")


class ParallelCoAttention(nn.Module):
    """Photo and question attend to each other at once (section 3.3, eqs 3-5).

    Args:
        size: d of the vectors of positions and words.
        attention: k of the hidden layer.
    """

    def __init__(self, size: int, attention: int) -> None:
        super().__init__()
        self.w_b = nn.Linear(size, size, bias=False)
        self.w_v = nn.Linear(size, attention, bias=False)
        self.w_q = nn.Linear(size, attention, bias=False)
        self.w_hv = nn.Linear(attention, 1, bias=False)
        self.w_hq = nn.Linear(attention, 1, bias=False)
        self.dropout = nn.Dropout(0.3)

    def forward(self, photo: Tensor, words: Tensor, told: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Attend.

        Args:
            photo: V, ``[B, N, d]``.
            words: Q, ``[R, T, d]``, zero where nothing is told; R is a multiple of B.
            told: bool ``[R, T]``.

        Returns:
            v̂ and q̂ ``[R, d]``; the attention over the photo a^v ``[R, N]`` and over the words a^q ``[R, T]``.
        """
        # The words of a photo's questions stand together, so that nothing of the photo is copied for each question.
        photos, (rows, steps, _) = photo.shape[0], words.shape
        asked = words.reshape(photos, -1, words.shape[2])
        photo_key, word_key = self.w_v(photo), self.w_q(asked)
        # C, eq. 3; the words go through W_b, for there are fewer of them than positions.
        affinity = torch.tanh(asked @ self.w_b.weight @ photo.transpose(1, 2))
        by_words = (affinity @ photo_key).reshape(rows, steps, -1)
        affinity = affinity.reshape(photos, rows // photos, steps, -1)
        by_photo = affinity.transpose(2, 3) @ word_key.reshape(photos, rows // photos, steps, -1)
        h_v = torch.tanh(photo_key[:, None] + by_photo)  # eq. 4
        h_q = torch.tanh(word_key.reshape(rows, steps, -1) + by_words)
        a_v = torch.softmax(self.w_hv(self.dropout(h_v)).squeeze(-1).float(), dim=2)
        energy = self.w_hq(self.dropout(h_q)).squeeze(-1).float()
        a_q = torch.softmax(energy.masked_fill(~told, -torch.inf), dim=1)
        v = (a_v.to(photo.dtype) @ photo).flatten(0, 1)  # eq. 5
        q = (a_q.to(words.dtype)[:, None] @ words)[:, 0]
        return v, q, a_v.flatten(0, 1), a_q


class CoAttention(nn.Module):
    """The question at three levels (words, phrases, whole), each of which attends to the photo and is attended to.

    The answer builds up over the levels (eq. 7). Each position of the photo is a linear map of the grid's channels. The
    attention that is given back is that of the whole question: single words tend to attend to nothing in particular.

    Args:
        vocabulary: the words of questions.
        answers: the A answers, in the order of the logits.
        size: d of the vectors of positions and words.
        attention: k of the co-attention's hidden layer.
    """

    architecture = "hierarchical-coattention"
    input_size: int = 288
    """Side of the photos that the model was trained on."""

    def __init__(self, vocabulary: Vocabulary, answers: Sequence[str], size: int = 320, attention: int = 128) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.answers = list(answers)
        self.config = {"size": size, "attention": attention}
        self.encoder = GridEncoder()
        self.annotate = nn.Linear(GridEncoder.channels, size)
        self.embed = nn.Embedding(len(vocabulary), size)
        self.grams = nn.ModuleList([nn.Conv1d(size, size, n) for n in GRAMS])
        self.lstm = nn.LSTM(size, size, batch_first=True)
        self.attend = nn.ModuleList([ParallelCoAttention(size, attention) for _ in LEVELS])
        self.build = nn.ModuleList([nn.Linear(size * (1 if level == 0 else 2), size) for level in range(len(LEVELS))])
        self.output = nn.Linear(size, len(self.answers))
        self.word_dropout = nn.Dropout(0.3)
        self.photo_dropout = nn.Dropout(0.3)
        self.dropout = nn.Dropout(0.5)

    def encode(self, images: Tensor) -> Tensor:
        """``[B, 3, H, W]`` normalised → grid ``[B, 1280, h, w]``."""
        grid: Tensor = self.encoder(images)
        return grid

    def read_question(self, question: Tensor) -> tuple[list[Tensor], Tensor]:
        """``[R, T]`` → the words at each level (three times ``[R, T, d]``, zero behind the end) and where they are."""
        told = real_words(question, self.vocabulary)
        words = torch.where(told[..., None], self.word_dropout(self.embed(question)), 0.0)
        # Windows begin at their word; zeros stand in for what would come behind the question.
        phrases = [
            torch.tanh(conv(F.pad(words.transpose(1, 2), (0, n - 1))))
            for n, conv in zip(GRAMS, self.grams, strict=True)
        ]
        phrase = torch.stack(phrases).amax(0).transpose(1, 2)
        whole, _ = self.lstm(self.word_dropout(phrase))
        return [words, *(torch.where(told[..., None], level, 0.0) for level in (phrase, whole))], told

    def decode(self, features: Tensor, question: Tensor) -> VQAOutput:
        """Answer.

        Args:
            features: grid ``[B, C, h, w]``.
            question: ``[R, T]``, at least one word each, padded at the end; R is a multiple of B, and the questions
                of a photo are neighbours.
        """
        photo = self._annotate(features)
        levels, told = self.read_question(question)
        met, maps = [], []
        for words, attend in zip(levels, self.attend, strict=True):
            v, q, a_v, _ = attend(photo, words.to(photo.dtype), told)
            met.append(q + v)
            maps.append(a_v)
        by_level = torch.stack(maps, dim=1).unflatten(2, (features.shape[2], features.shape[3]))
        return VQAOutput(self._answer(met), by_level[:, -1], by_level)

    def detect(self, features: Tensor, question: Tensor) -> Tensor:
        """What the answer would be if the photo's attention lay on one position: ``[R, A, h, w]`` for R = B questions.

        The question is attended to as in :meth:`decode`.
        """
        photo = self._annotate(features)
        levels, told = self.read_question(question)
        met = []
        for words, attend in zip(levels, self.attend, strict=True):
            _, q, _, _ = attend(photo, words.to(photo.dtype), told)
            met.append(q[:, None] + photo)
        maps: Tensor = self._answer(met).transpose(1, 2).unflatten(2, features.shape[2:])
        return maps

    def _annotate(self, features: Tensor) -> Tensor:
        """The grid ``[B, C, h, w]`` → V ``[B, N, d]``."""
        photo: Tensor = self.annotate(self.photo_dropout(features.flatten(2).transpose(1, 2)))
        return photo

    def _answer(self, met: Sequence[Tensor]) -> Tensor:
        """q̂ + v̂ of each level ``[..., d]`` → logits ``[..., A]`` (eq. 7)."""
        built = torch.tanh(self.build[0](self.dropout(met[0])))
        for sum_, build in zip(met[1:], list(self.build)[1:], strict=True):
            built = torch.tanh(build(self.dropout(torch.cat([sum_, built], dim=-1))))
        logits: Tensor = self.output(self.dropout(built))
        return logits

    def forward(self, images: Tensor, question: Tensor) -> VQAOutput:
        """:meth:`encode`, then :meth:`decode`."""
        return self.decode(self.encode(images), question)
