"""Show and Tell (Vinyals et al. 2015, arXiv:1411.4555)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmexplain.problem import PooledVJP
from mmexplain.products import product
from mmexplain.recurrent import Schedule, Slopes, through_cell, walk

from .captioner import DecoderOutput
from .encoder import GridEncoder
from .search import Trace
from .vocabulary import Vocabulary


class TellState(NamedTuple):
    """The LSTM's memory of R captions: ``h`` and ``c``, each ``[R, D]``."""

    h: Tensor
    c: Tensor

    def select(self, rows: Tensor) -> TellState:
        """The captions ``rows``."""
        return TellState(self.h[rows], self.c[rows])


class ShowAndTell(nn.Module):
    """An LSTM that sees the photo once, as its first input (eqs 10-12).

    Photos and words share one embedding space, as in the paper. Here the space is also trained for it: the dot product
    of a position's embedding and a word's scores the word there (:meth:`detect`).

    Args:
        vocabulary: its V words.
        embedding: size of the vectors of photos and words.
        hidden: size D of the LSTM.
    """

    architecture = "show-and-tell"
    input_size: int = 288
    """Side of the photos that the model was trained on."""
    embedding = "embed"
    first_word = 1
    """Place of a caption's first word among those that ``embedding`` puts out: the start token stands before it."""

    def __init__(self, vocabulary: Vocabulary, embedding: int = 512, hidden: int = 512) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.config = {"embedding": embedding, "hidden": hidden}
        self.encoder = GridEncoder()
        self.see = nn.Linear(GridEncoder.channels, embedding)
        self.embed = nn.Embedding(len(vocabulary), embedding)
        self.lstm = nn.LSTM(embedding, hidden, batch_first=True)
        self.output = nn.Linear(hidden, len(vocabulary))
        self.detection_bias = nn.Parameter(torch.zeros(len(vocabulary)))
        self.embed_dropout = nn.Dropout(0.3)
        self.output_dropout = nn.Dropout(0.4)

    def encode(self, images: Tensor) -> Tensor:
        """``[B, 3, H, W]`` normalised → grid ``[B, 1280, h, w]``."""
        grid: Tensor = self.encoder(images)
        return grid

    def _photo(self, grid: Tensor, copies: int) -> Tensor:
        """The photo as an LSTM input, ``[B * copies, embedding]``."""
        seen: Tensor = self.see(grid.mean((2, 3)))
        return seen.repeat_interleave(copies, 0)

    def start(self, grid: Tensor, copies: int = 1) -> TellState:
        """The state before the first word of ``copies`` captions for each photo of ``grid`` ``[B, C, h, w]``."""
        _, (h, c) = self.lstm(self._photo(grid, copies)[:, None])
        return TellState(h[0], c[0])

    def step(self, state: TellState, previous: Tensor) -> tuple[Tensor, TellState, None]:
        """One word further: ``previous`` ``[R]`` → what :meth:`project` reads ``[R, D]``, the new state, None."""
        word = self.embed_dropout(self.embed(previous))
        _, (h, c) = self.lstm(word[:, None], (state.h[None], state.c[None]))
        return h[0], TellState(h[0], c[0]), None

    def decode(self, grid: Tensor, tokens: Tensor) -> DecoderOutput:
        """Teacher forcing.

        Args:
            grid: ``[B, C, h, w]``.
            tokens: ``[R, T]``, the words to predict, ``<end>`` among them; R is a multiple of B, and the captions of
                a photo are neighbours.
        """
        hidden, _ = self.lstm(self._read(grid, tokens))
        return DecoderOutput(hidden[:, 1:])

    def _read(self, grid: Tensor, tokens: Tensor) -> Tensor:
        """What the LSTM reads, the photo first: ``[R, 1 + T, embedding]``."""
        first = torch.full_like(tokens[:, :1], self.vocabulary.start)
        words = self.embed_dropout(self.embed(torch.cat([first, tokens[:, :-1]], dim=1)))
        photo = self._photo(grid, tokens.shape[0] // grid.shape[0])
        return torch.cat([photo[:, None].to(words.dtype), words], dim=1)

    def pooled_vjp(self, grid: Tensor, tokens: Tensor, begun: Trace | None = None) -> PooledVJP | None:
        """See :meth:`~mmexplain.tasks.captioning.captioner.CaptionerAdapter.pooled_vjp`."""
        # What a subclass does otherwise, the equations do not know.
        if type(self) is not ShowAndTell or grid.dtype not in (torch.float32, torch.float64):
            return None
        read = self._read(grid, tokens)
        if begun is None:
            hidden, _ = self.lstm(read)
        else:
            hidden = torch.cat([begun.start.h[:, None], begun.along(begun.hidden, tokens.shape[1])], 1)
        output = DecoderOutput(hidden[:, 1:])
        return PooledVJP(output, output.hidden, lambda vectors: self._pull_back(read, hidden, vectors))

    def _pull_back(self, read: Tensor, hidden: Tensor, vectors: Tensor) -> Tensor:
        """``[B, K, T, D]`` → ``[B, K, C]``. The photo is read as the mean of the grid, before all words: what moves the
        grid alike everywhere moves its mean, and the gradient goes back through all steps to that."""
        schedule = Schedule.of(vectors)
        weight_ih, weight_hh, bias_ih, bias_hh = self.lstm.all_weights[0]
        onward = weight_hh.mT.contiguous()
        before = nn.functional.pad(hidden[:, :-1], (0, 0, 1, 0))
        gates = product(read, weight_ih, bias_ih)
        gates += product(before, weight_hh, bias_hh)
        slopes = Slopes(gates, torch.zeros_like(before[:, 0])).values
        of_words, of_photo = schedule.aligned(slopes[:, 1:]), slopes[schedule.captions, 0]
        dh, dc = vectors.new_zeros(2, *vectors.shape[:2], hidden.shape[2])
        for stage, h, c in walk(schedule, dh, dc):
            h[stage.at] += schedule.vectors[stage.joining]
            h.copy_(product(through_cell(of_words[: stage.captions, stage.number], h, c), onward))
        photo = through_cell(of_photo, dh, dc) @ weight_ih
        return schedule.restored(photo @ self.see.weight)

    def project(self, hidden: Tensor) -> Tensor:
        """``[..., D]`` → logits ``[..., V]``."""
        logits: Tensor = self.output(self.output_dropout(hidden))
        return logits

    def forward(self, images: Tensor, tokens: Tensor) -> DecoderOutput:
        """:meth:`encode`, then :meth:`decode`."""
        return self.decode(self.encode(images), tokens)

    def detect(self, grid: Tensor, tokens: Tensor) -> Tensor:
        """How much each position looks like each word of ``tokens`` ``[W]``: ``[B, C, h, w]`` → ``[B, W, h, w]``."""
        seen = self.see(grid.flatten(2).transpose(1, 2))
        scores: Tensor = nn.functional.linear(seen, self.embed.weight[tokens], self.detection_bias[tokens])
        return scores.transpose(1, 2).reshape(len(grid), -1, *grid.shape[2:])

    def adopt_detector(self, weight: Tensor, bias: Tensor, tokens: list[int]) -> None:
        """Start from word detectors ``weight`` ``[W, C]`` and ``bias`` ``[W]`` for ``tokens``.

        The embeddings of photo and words become their factors, by singular value decomposition.
        """
        u, s, v = torch.linalg.svd(weight.float(), full_matrices=False)
        rank = min(self.config["embedding"], len(s))
        root = s[:rank].sqrt()
        with torch.no_grad():
            self.detection_bias[tokens] = bias
            self.embed.weight[tokens, :rank] = u[:, :rank] * root
            self.see.weight[:rank] = v[:rank] * root[:, None]
