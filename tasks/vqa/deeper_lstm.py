"""Deeper LSTM Q + norm I (Lu et al. 2015, ``VQA_LSTM_CNN``; Antol et al., "VQA", ICCV 2015)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexplain.tasks.captioning.encoder import GridEncoder
from mmexplain.tasks.captioning.vocabulary import Vocabulary

from .answering import VQAOutput, copies_of, real_words


class DeeperLSTM(nn.Module):
    """A two-layer LSTM reads the question; its last states and the photo's mean feature meet in a product.

    ``logits = MLP(tanh(W_i v) * tanh(W_q q))``: v is the mean of the grid, L2-normalised ("norm I"); q the hidden and
    cell states of both layers after the question's last word. v has length √C here rather than 1, so that its
    entries are of order one; the paper's ``W_i`` is √C times this one.

    Args:
        vocabulary: the words of questions.
        answers: the A answers, in the order of the logits.
        embedding: size of the word vectors.
        hidden: size D of each LSTM layer.
        common: size of the space in which photo and question meet, and of the MLP's hidden layer.
    """

    architecture = "deeper-lstm-norm-i"
    input_size: int = 288
    """Side of the photos that the model was trained on."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        answers: Sequence[str],
        embedding: int = 200,
        hidden: int = 256,
        common: int = 512,
    ) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.answers = list(answers)
        self.config = {"embedding": embedding, "hidden": hidden, "common": common}
        self.encoder = GridEncoder()
        self.embed = nn.Embedding(len(vocabulary), embedding)
        self.layers = nn.ModuleList([nn.LSTMCell(embedding, hidden), nn.LSTMCell(hidden, hidden)])
        self.see = nn.Linear(GridEncoder.channels, common)
        self.read = nn.Linear(4 * hidden, common)
        self.fuse = nn.Linear(common, common)
        self.output = nn.Linear(common, len(self.answers))
        self.word_dropout = nn.Dropout(0.3)
        self.photo_dropout = nn.Dropout(0.3)
        self.dropout = nn.Dropout(0.5)

    def encode(self, images: Tensor) -> Tensor:
        """``[B, 3, H, W]`` normalised → grid ``[B, 1280, h, w]``."""
        grid: Tensor = self.encoder(images)
        return grid

    def read_question(self, question: Tensor) -> Tensor:
        """``[R, T]`` → hidden and cell states of both layers after each row's last word, ``[R, 4 D]``."""
        words = self.word_dropout(torch.tanh(self.embed(question)))
        told = real_words(question, self.vocabulary)
        state = words.new_zeros(len(question), self.config["hidden"])
        states = [(state, state) for _ in self.layers]
        for step, word in enumerate(words.unbind(1)):
            going_on = told[:, step, None]
            below = word
            for number, layer in enumerate(self.layers):
                h, c = layer(below, states[number])
                states[number] = (
                    torch.where(going_on, h, states[number][0]),
                    torch.where(going_on, c, states[number][1]),
                )
                below = self.word_dropout(h)
        return torch.cat([part for pair in states for part in pair], dim=1)

    def decode(self, features: Tensor, question: Tensor) -> VQAOutput:
        """Answer.

        Args:
            features: grid ``[B, C, h, w]``.
            question: ``[R, T]``, at least one word each, padded at the end; R is a multiple of B, and the questions
                of a photo are neighbours.
        """
        photo = self._see(features.mean((2, 3))).repeat_interleave(copies_of(features, question), 0)
        return VQAOutput(self._answer(photo, self.read_question(question)))

    def detect(self, features: Tensor, question: Tensor) -> Tensor:
        """What the answer would be if each position were the whole photo: ``[R, A, h, w]`` for R = B questions."""
        photo = self._see(features.movedim(1, 3).flatten(0, 2)).unflatten(0, (len(features), -1))
        scores = self._answer(photo, self.read_question(question)[:, None])
        maps: Tensor = scores.transpose(1, 2).unflatten(2, features.shape[2:])
        return maps

    def _see(self, vectors: Tensor) -> Tensor:
        """``[N, C]`` → ``[N, common]``."""
        normed = F.normalize(vectors, dim=1) * math.sqrt(vectors.shape[1])
        return torch.tanh(self.see(self.photo_dropout(normed)))

    def _answer(self, photo: Tensor, states: Tensor) -> Tensor:
        asked = torch.tanh(self.read(self.dropout(states)))
        logits: Tensor = self.output(self.dropout(torch.tanh(self.fuse(self.dropout(photo * asked)))))
        return logits

    def forward(self, images: Tensor, question: Tensor) -> VQAOutput:
        """:meth:`encode`, then :meth:`decode`."""
        return self.decode(self.encode(images), question)
