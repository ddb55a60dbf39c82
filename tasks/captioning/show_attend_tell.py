"""Show, Attend and Tell with soft attention (Xu et al. 2015, arXiv:1502.03044)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmexplain.problem import PooledVJP

from .attend_backward import attend_back
from .captioner import DecoderOutput
from .encoder import GridEncoder
from .search import Trace
from .vocabulary import Vocabulary


class AttendState(NamedTuple):
    """What the decoder remembers of R captions about B photos; caption r is about photo ``r // (R / B)``.

    Attributes:
        annotations: ``[B, P, A]``, one vector a_i for each of the P positions.
        keys: ``[B, P, K]``, their part of the attention scores.
        height: rows of the grid; ``P = height * width``.
        h: ``[R, D]``.
        c: ``[R, D]``.
    """

    annotations: Tensor
    keys: Tensor
    height: int
    h: Tensor
    c: Tensor

    def select(self, rows: Tensor) -> AttendState:
        """The captions ``rows``; each must stay with its photo, and all photos keep equally many."""
        return self._replace(h=self.h[rows], c=self.c[rows])


class Forced(NamedTuple):
    """A teacher-forced pass over R captions.

    Attributes:
        output: what it gave.
        start: the state before the first word.
        words: ``[R, T, embedding]``, the words that were read.
        before: ``[R, T, D]``, the LSTM's h before each step.
    """

    output: DecoderOutput
    start: AttendState
    words: Tensor
    before: Tensor


class ShowAttendTell(nn.Module):
    """An LSTM that looks at the photo anew before each word.

    ``logits = L_o (E y + L_h h + L_z z)`` (eq. 7), so a word's logit is linear in what the decoder looks at. The
    same ``L_o L_z`` scores words at each position of the grid (:meth:`detect`); training on both makes the gradient of
    a word point at the features of the thing.

    Args:
        vocabulary: its V words.
        annotation: size A of the annotation vectors, a linear map of the encoder's channels.
        attention: size K of the attention's hidden layer.
        embedding: size of the word vectors and of the deep output layer.
        hidden: size D of the LSTM.
    """

    architecture = "show-attend-tell"
    input_size: int = 288
    """Side of the photos that the model was trained on."""
    embedding = "embed"
    first_word = 1
    """Place of a caption's first word among those that ``embedding`` puts out: the start token stands before it."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        annotation: int = 512,
        attention: int = 128,
        embedding: int = 256,
        hidden: int = 512,
    ) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.config = {
            "annotation": annotation,
            "attention": attention,
            "embedding": embedding,
            "hidden": hidden,
        }
        self.encoder = GridEncoder()
        self.annotate = nn.Linear(GridEncoder.channels, annotation)
        self.embed = nn.Embedding(len(vocabulary), embedding)
        self.init_h = nn.Linear(annotation, hidden)
        self.init_c = nn.Linear(annotation, hidden)
        self.key = nn.Linear(annotation, attention)
        self.query = nn.Linear(hidden, attention)
        self.energy = nn.Linear(attention, 1)
        self.gate = nn.Linear(hidden, 1)
        self.lstm = nn.LSTMCell(embedding + annotation, hidden)
        self.l_h = nn.Linear(hidden, embedding)
        self.l_z = nn.Linear(annotation, embedding, bias=False)
        self.l_o = nn.Linear(embedding, len(vocabulary))
        self.detection_bias = nn.Parameter(torch.zeros(len(vocabulary)))
        self.embed_dropout = nn.Dropout(0.3)
        self.output_dropout = nn.Dropout(0.4)

    def encode(self, images: Tensor) -> Tensor:
        """``[B, 3, H, W]`` normalised → grid ``[B, 1280, h, w]``."""
        grid: Tensor = self.encoder(images)
        return grid

    def start(self, grid: Tensor, copies: int = 1) -> AttendState:
        """The state before the first word of ``copies`` captions for each photo of ``grid`` ``[B, C, h, w]``."""
        annotations = self.annotate(grid.flatten(2).transpose(1, 2))
        mean = annotations.mean(1)
        h = torch.tanh(self.init_h(mean)).repeat_interleave(copies, 0)
        c = torch.tanh(self.init_c(mean)).repeat_interleave(copies, 0)
        return AttendState(annotations, self.key(annotations), grid.shape[2], h, c)

    def step(self, state: AttendState, previous: Tensor) -> tuple[Tensor, AttendState, Tensor]:
        """One word further.

        Args:
            state: of R captions.
            previous: ``[R]``, the word before (``<start>`` at first).

        Returns:
            What :meth:`project` turns into the next word's logits, ``[R, embedding]``; the new state; the attention
            ``[R, h, w]``, which sums to 1.
        """
        word = self.embed_dropout(self.embed(previous))
        z, state, attention = self._step(state, word)
        return self._output(word, state.h, z), state, attention.unflatten(1, (state.height, -1))

    def _step(self, state: AttendState, word: Tensor) -> tuple[Tensor, AttendState, Tensor]:
        """What is looked at, the new state, and the attention ``[R, P]``."""
        photos = state.annotations.shape[0]
        query = self.query(state.h).unflatten(0, (photos, -1))
        energy = self.energy(torch.tanh(state.keys[:, None] + query[:, :, None])).squeeze(-1)
        alpha = torch.softmax(energy if energy.dtype == torch.float64 else energy.float(), dim=-1)
        z = torch.bmm(alpha.to(state.annotations.dtype), state.annotations).flatten(0, 1)
        z = torch.sigmoid(self.gate(state.h)) * z
        h, c = self.lstm(torch.cat([word.to(z.dtype), z], dim=1), (state.h, state.c))
        return z, state._replace(h=h, c=c), alpha.flatten(0, 1)

    def _output(self, word: Tensor, h: Tensor, z: Tensor) -> Tensor:
        hidden: Tensor = word + self.l_h(h) + self.l_z(z)
        return hidden

    def decode(self, grid: Tensor, tokens: Tensor) -> DecoderOutput:
        """Teacher forcing.

        Args:
            grid: ``[B, C, h, w]``.
            tokens: ``[R, T]``, the words to predict, ``<end>`` among them; R is a multiple of B, and the captions of
                a photo are neighbours.
        """
        return self._forced(self.start(grid, tokens.shape[0] // grid.shape[0]), tokens).output

    def _words(self, tokens: Tensor) -> Tensor:
        """``[R, T]``, said → ``[R, T, embedding]``, read: each is the word before."""
        first = torch.full_like(tokens[:, :1], self.vocabulary.start)
        words: Tensor = self.embed_dropout(self.embed(torch.cat([first, tokens[:, :-1]], dim=1)))
        return words

    def _forced(self, start: AttendState, tokens: Tensor) -> Forced:
        words, state = self._words(tokens), start
        h, z, attention = [start.h], [], []
        for word in words.unbind(1):
            seen, state, alpha = self._step(state, word)
            h.append(state.h)
            z.append(seen)
            attention.append(alpha)
        memory = torch.stack(h, dim=1)
        maps = torch.stack(attention, dim=1).unflatten(2, (start.height, -1))
        output = DecoderOutput(self._output(words, memory[:, 1:], torch.stack(z, dim=1)), maps)
        return Forced(output, start, words, memory[:, :-1])

    def _remembered(self, trace: Trace, tokens: Tensor) -> Forced:
        """The same of captions that a search found."""
        length = tokens.shape[1]
        attention = [maps for maps in trace.attention if maps is not None]
        output = DecoderOutput(trace.along(trace.hidden, length), trace.along(attention, length))
        before = trace.along([state.h for state in trace.states], length)
        return Forced(output, trace.start, self._words(tokens), before)

    def pooled_vjp(self, grid: Tensor, tokens: Tensor, begun: Trace | None = None) -> PooledVJP | None:
        """See :meth:`~mmexplain.tasks.captioning.captioner.CaptionerAdapter.pooled_vjp`."""
        # What a subclass does otherwise, the equations do not know.
        if type(self) is not ShowAttendTell or grid.dtype not in (torch.float32, torch.float64):
            return None
        forced = self._remembered(begun, tokens) if begun else self._forced(self.start(grid), tokens)
        return PooledVJP(forced.output, forced.output.hidden, lambda vectors: attend_back(self, forced, vectors))

    def project(self, hidden: Tensor) -> Tensor:
        """``[..., embedding]`` → logits ``[..., V]``."""
        logits: Tensor = self.l_o(self.output_dropout(hidden))
        return logits

    def forward(self, images: Tensor, tokens: Tensor) -> DecoderOutput:
        """:meth:`encode`, then :meth:`decode`."""
        return self.decode(self.encode(images), tokens)

    def detect(self, grid: Tensor, tokens: Tensor) -> Tensor:
        """How much each position looks like each word of ``tokens`` ``[W]``: ``[B, C, h, w]`` → ``[B, W, h, w]``."""
        annotations = self.annotate(grid.flatten(2).transpose(1, 2))
        weight, bias = self.l_o.weight[tokens], self.detection_bias[tokens]
        scores: Tensor = nn.functional.linear(self.l_z(annotations), weight, bias)
        return scores.transpose(1, 2).reshape(len(grid), -1, *grid.shape[2:])

    def adopt_detector(self, weight: Tensor, bias: Tensor, tokens: list[int]) -> None:
        """Start from word detectors ``weight`` ``[W, C]`` and ``bias`` ``[W]`` for ``tokens``.

        ``L_o L_z W_a`` becomes their best approximation of its rank, by singular value decomposition.
        """
        u, s, v = torch.linalg.svd(weight.float(), full_matrices=False)
        rank = min(self.config["embedding"], self.config["annotation"], len(s))
        root = s[:rank].sqrt()
        with torch.no_grad():
            self.detection_bias[tokens] = bias
            self.l_o.weight[tokens, :rank] = u[:, :rank] * root
            self.annotate.weight[:rank] = v[:rank] * root[:, None]
            self.l_z.weight.zero_()
            self.l_z.weight[:rank, :rank] = torch.eye(rank)


def doubly_stochastic(attention: Tensor, mask: Tensor) -> Tensor:
    """Xu et al. eq. 14: ``mean_i (1 - sum_t alpha_ti)²``, which asks the decoder to look everywhere once.

    Args:
        attention: ``[R, T, h, w]``.
        mask: ``[R, T]``, which steps count.
    """
    looked = (attention.flatten(2) * mask[:, :, None]).sum(1)
    return ((1 - looked) ** 2).mean()
