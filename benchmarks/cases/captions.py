"""The words of a caption."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Any

import torch
from captioners import TAP, Adapter, Captioner
from torch import Tensor

import mmexplain
from cases.case import Case, Ready, Scores, Subject, grad_cam_case
from cases.classes import photos
from cases.own import batch_of, explained
from mmexplain.preprocess import Preprocess
from mmexplain.targets import Target
from mmexplain.tasks.captioning.task import Captioning

GROUP = "Words of a caption"
WORDS = (12, 20)
VOCABULARY = 10_000
TITLES = {"resnet50": "ResNet-50 + LSTM", "vgg16": "VGG-16 + LSTM", "resnet18": "ResNet-18 + LSTM"}


class WordScores(Scores):
    """Logits of the words of a caption: a photo is encoded and the words up to the last wanted one are read."""

    def __init__(self, captioner: Any, tokens: Tensor) -> None:
        super().__init__(captioner, tokens.shape[1])
        self.tokens = tokens

    def forward(self, images: Tensor) -> Tensor:
        """``[B, n]``, or ``[B · n, 1]`` by row."""
        wanted = torch.tensor(self.wanted, device=images.device)
        tokens = self.tokens[:, : max(self.wanted) + 1].expand(len(images), -1)
        features = self.model.encode(images)
        # cuDNN's recurrent kernels refuse a backward pass in eval mode.
        with torch.backends.cudnn.flags(enabled=not torch.is_grad_enabled(), allow_tf32=False):
            hidden = self.model.decode(features, tokens).hidden
        if self.by_row:
            steps = wanted.repeat(len(images) // len(wanted))[:, None]
            hidden = hidden[torch.arange(len(images), device=images.device)[:, None], steps]
            said = tokens.gather(1, steps)
        else:
            hidden, said = hidden[:, wanted], tokens[:, wanted]
        logits: Tensor = self.model.project(hidden)
        return logits.gather(-1, said[..., None])[..., 0]

    def plain(self, images: Tensor) -> Any:
        """Photo and words in, logits out."""
        output = self.model.decode(self.model.encode(images), self.tokens.expand(len(images), -1))
        return self.model.project(output.hidden)


@lru_cache(maxsize=1)
def captioner_of(architecture: str, vocabulary: int, device: str) -> Adapter:
    """A captioner with random weights, the same every time."""
    torch.manual_seed(0)
    return Adapter(Captioner(architecture, vocabulary)).eval().to(device)  # type: ignore[arg-type]


def words_of(tokens: Tensor) -> list[Target]:
    """Every word as a target."""
    return [Target(f"word {place}", "word", (token,), place) for place, token in enumerate(tokens[0].tolist())]


def _subject(task: Captioning, image: Tensor, count: int, layer: str) -> Subject:
    captioner = task.captioner
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(1, len(captioner.vocabulary.tokens), (1, count), generator=generator).to(image.device)

    @torch.no_grad()
    def encoder_alone() -> Any:
        return captioner.encode(image)

    return Subject(
        WordScores(captioner, tokens),
        image,
        [layer],
        explained(task, batch_of("image", image, tokens=tokens), words_of(tokens), [layer]),
        alike=False,
        parts={"encoder alone": encoder_alone},
    )


def with_lstm(architecture: str, count: int, size: int, vocabulary: int, device: str) -> Ready:
    """A CNN, and an LSTM that sees the photo as its first input."""
    task = Captioning(captioner_of(architecture, vocabulary, device), Preprocess(resize=(size, size)))
    layer = f"captioner.encoder.{TAP[architecture]}"
    return grad_cam_case(_subject(task, photos(1, size, device), count, layer))


def with_attention(count: int, device: str) -> Ready:
    """The bundled captioner."""
    task: Any = mmexplain.load("show-attend-tell", "caption", device)
    return grad_cam_case(_subject(task, photos(1, task.captioner.input_size, device), count, task.default_layer()))


def cases(tiny: bool) -> Iterator[Case]:
    """All of them."""
    from cases.blip import build as blip

    makers: dict[str, Any] = {}
    for architecture in ("resnet18",) if tiny else ("resnet50", "vgg16"):
        makers[TITLES[architecture]] = partial(with_lstm, architecture)
    if not tiny:
        makers |= {"LSTM with attention (show-attend-tell)": with_attention, "BLIP-base": blip}
    for title, make in makers.items():
        for count in (5,) if tiny else WORDS:
            sized = {"size": 64 if tiny else 224, "vocabulary": 55 if tiny else VOCABULARY} if "+" in title else {}
            yield Case(
                GROUP,
                f"{title}, {count} words",
                title,
                1,
                count,
                partial(_made, make, count, sized),
                {"cpu": 1.4, "cuda": 1.4} if count == 12 else {},
                against_peers=True,
                quick=title == TITLES["resnet50"] and count == 12,
            )


def _made(make: Any, count: int, sized: dict[str, int], device: str) -> Ready:
    ready: Ready = make(count, *sized.values(), device)
    return ready
