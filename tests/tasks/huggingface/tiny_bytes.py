"""Tokenizers that spell unknown characters byte by byte."""

from __future__ import annotations

from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.tasks.huggingface.tiny_speakers import WORDS


def sentencepiece(*pieces: str, kind: str = "unigram") -> Any:
    """As SentencePiece has it: ``▁`` for spaces, and ``<0x..>`` for the bytes of what no piece spells."""
    special = ["<unk>", "<s>", "</s>"]
    octets = [f"<0x{number:02X}>" for number in range(256)]
    letters = ["▁", *"abcdefghijklmnopqrstuvwxyz", *pieces]
    words = [f"▁{word}" for word in (*WORDS, "caf")]
    model: Any
    if kind == "unigram":
        scores = {**dict.fromkeys(octets, -20.0), **dict.fromkeys(letters, -9.0), **dict.fromkeys(words, -2.0)}
        model = models.Unigram([*((name, 0.0) for name in special), *scores.items()], unk_id=0, byte_fallback=True)
    else:
        vocabulary = {piece: number for number, piece in enumerate([*special, *octets, *letters])}
        model = models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
