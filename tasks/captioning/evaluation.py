"""How good a captioner is: its captions, and whether its words' maps lie on the things they name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmexplain.methods import gradcam, gradcam_pp

from .bleu import bleu_scores, generate, shuffled_bleu
from .cache import Progress
from .flickr8k import Photo
from .grounding import baselines, counts, grounded_words, hit_rates, peaks
from .vocabulary import Vocabulary
from .weights import BundledCaptioner


def caption_tokens(texts: Sequence[Sequence[str]], vocabulary: Vocabulary, longest: int | None = None) -> Tensor:
    """Captions given as words → indices with ``<end>`` behind them, padded: int64 ``[len(texts), T]``.

    Args:
        texts: each caption's words.
        vocabulary: the model's words; others become ``<unk>``.
        longest: keep so many tokens at most.
    """
    rows = [torch.tensor([vocabulary.index(word) for word in words] + [vocabulary.end])[:longest] for words in texts]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=vocabulary.pad)


def word_maps(captioner: BundledCaptioner, grid: Tensor, tokens: Tensor, positions: Tensor) -> dict[str, Tensor]:
    """Grad-CAM (Selvaraju et al. 2017) and Grad-CAM++ (Chattopadhay et al. 2018) of single words at the encoder's grid.

    Args:
        captioner: in eval mode.
        grid: ``[R, C, h, w]``, the photo of each word.
        tokens: ``[R, T]``, the caption of each word; what comes behind the word does not matter.
        positions: ``[R]``, where in the caption the word is.

    Returns:
        Maps ``[R, h, w]``: ``grad-cam`` and ``grad-cam++``, of the word's log-probability given the words before it;
        ``grad-cam-logit``, of its score before the softmax; ``attention``, the model's own, if it has one.
    """
    at = torch.arange(len(tokens))
    said = tokens[at, positions]
    features = grid.detach().requires_grad_()
    with torch.enable_grad():
        output = captioner.decode(features, tokens)
        logits = captioner.project(output.hidden[at, positions])
        scores = {
            "grad-cam": logits.log_softmax(-1)[at, said].sum(),
            "grad-cam-logit": logits[at, said].sum(),
        }
        maps = {}
        for name, score in scores.items():
            (gradients,) = torch.autograd.grad(score, features, retain_graph=True)
            maps[name] = gradcam(grid[:, None], gradients[:, None])[:, 0]
            if name == "grad-cam":
                maps["grad-cam++"] = gradcam_pp(grid[:, None], gradients[:, None])[:, 0]
    if output.attention is not None:
        maps["attention"] = output.attention[at, positions].detach()
    return maps


def evaluate_grounding(
    captioner: BundledCaptioner,
    grids: Tensor,
    photos: Sequence[Photo],
    rows: Sequence[int],
    progress: Progress,
    batch: int = 128,
) -> dict[str, Any]:
    """Grounding of all boxed words of the human captions of some photos, with the baselines.

    Args:
        captioner: in eval mode.
        grids: ``[len(rows), C, h, w]``, of the clean photos.
        photos: all photos.
        rows: which of them.
        progress: told how far it is.
        batch: words at a time.

    Returns:
        Hit rates, ``all`` and by kind, of each map of :func:`word_maps`, of the photo's ``centre`` and of a ``random``
        point; ``words``: how many words there are.
    """
    place = {row: i for i, row in enumerate(rows)}
    words = grounded_words(((row, photos[row].sentences) for row in rows), captioner.vocabulary)
    words.sort(key=lambda word: word.position)  # so that a batch needs no longer captions than its words
    points: dict[str, list[Tensor]] = {}
    for begin in range(0, len(words), batch):
        part = words[begin : begin + batch]
        positions = torch.tensor([word.position for word in part])
        captions = [photos[word.photo].sentences[word.sentence].words for word in part]
        tokens = caption_tokens(captions, captioner.vocabulary)[:, : int(positions.max()) + 1]
        grid = grids[[place[word.photo] for word in part]].float()
        for name, maps in word_maps(captioner, grid, tokens, positions).items():
            points.setdefault(name, []).append(peaks(maps))
        progress("grounding", begin + len(part), len(words))
    rates = {name: hit_rates(torch.cat(found), words) for name, found in points.items()}
    return {"words": counts(words), **rates, **baselines(words)}


def evaluate_captions(
    captioner: BundledCaptioner, grids: Tensor, photos: Sequence[Photo], rows: Sequence[int], beam: int
) -> dict[str, Any]:
    """BLEU-1 .. 4 of the captions of some photos against their 5 human ones, and the same with captions shuffled."""
    references = [photos[row].captions for row in rows]
    captions = generate(captioner, grids, beam)
    return {
        "beam": beam,
        "photos": len(rows),
        **bleu_scores(references, captions),
        "shuffled": shuffled_bleu(references, captions),
    }
