"""Vision-language models whose language model reads the photo as tokens of its own, among those of the text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from mmexplain.errors import LayerError
from mmexplain.geometry import Geometry
from mmexplain.io import Photo
from mmexplain.reader import Reader
from mmexplain.tasks.huggingface.processors import geometry_of
from mmexplain.tasks.huggingface.speaker import Look
from mmexplain.tasks.huggingface.speakers.prompted import Prompted
from mmexplain.tasks.huggingface.views import Views


class ImageTextSpeaker(Prompted):
    """What the families share: image tokens stand in the prompt, are filled with the projected output of the vision
    tower, and the text follows.

    A family says how its processor cuts the photo (:meth:`seen`), and where its modules are.

    Attributes:
        tower, projector, text: dotted names of the vision tower, of what makes the language model's tokens of its
            output, and of the language model.
        suffix: tensor beside the tokens → what it holds for tokens that follow the prompt.
    """

    tower: ClassVar[str] = "model.vision_tower"
    projector: ClassVar[str] = "model.multi_modal_projector"
    text: ClassVar[str] = "model.language_model"
    suffix: ClassVar[dict[str, int]] = {}

    def seen(self, photo: Photo, made: dict[str, Tensor]) -> tuple[Tensor, Geometry, Views, Tensor]:
        """What the processor made of a photo: here one view, with a token for each patch.

        Args:
            photo: the photo.
            made: the processor's tensors.

        Returns:
            The look's image; its geometry; the views; and, of their shape, which of the photo's tokens in the prompt
            stands at each place (counted from 0; -1 where none does).
        """
        image = made["pixel_values"]
        patch = self.model.config.vision_config.patch_size
        grid = (image.shape[-2] // patch, image.shape[-1] // patch)
        order = torch.arange(grid[0] * grid[1]).view(grid)
        return image, geometry_of(self.checkpoint.image_processor, photo.geometry), Views(grid), order

    def features(self, image: Tensor, look: Look) -> Any:
        """The model's own ``get_image_features`` of a look's image: here of one view."""
        return self.model.model.get_image_features(pixel_values=image)

    # -- the photo and the prompt -----------------------------------------------------------------------------------

    def look(self, photo: Photo, prompt: str) -> Look:
        """By the processor, see :meth:`Prompted.made`."""
        made = self.made(photo, prompt)
        made.pop("labels", None)
        tensors = {
            name: value.to(self.device, self.dtype if value.is_floating_point() else value.dtype)
            for name, value in made.items()
        }
        ids = tensors["input_ids"]
        image, geometry, views, order = self.seen(photo, tensors)
        places = (ids[0] == self.image_token).nonzero()[:, 0]
        # Where each place's token stands in the prompt.
        order = order.to(places.device)
        order = torch.where(order >= 0, places[order.clamp(min=0)], -1)
        context = {name: tensors[name] for name in (*self.suffix, *self.beside) if name in tensors}
        return Look(image, ids, geometry, views, {**context, "order": order[None]}, tensors)

    beside: ClassVar[tuple[str, ...]] = ()
    """Tensors of the processor that the language model needs besides."""

    # -- two steps --------------------------------------------------------------------------------------------------

    def encode(self, image: Tensor, look: Look) -> Tensor:
        """The photo's tokens as the language model reads them, ``[1, N, D]``."""
        found = self.features(image, look).pooler_output
        tokens = int((look.prompt == self.image_token).sum())
        features: Tensor = torch.cat([part.flatten(0, -2) for part in found]).unflatten(0, (-1, tokens))
        return features

    def read(self, features: Tensor, look: dict[str, Tensor], said: Tensor) -> Tensor:
        """One pass of the language model over the prompt and the texts."""
        prompt = look["prompt"]
        ids = torch.cat([prompt, said[:, :-1]], 1)
        types = {
            name: torch.cat([look[name], torch.full_like(said[:, :-1], value)], 1)
            for name, value in self.suffix.items()
            if name in look
        }
        hidden: Tensor = self.model.model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            **types,
            **{name: look[name] for name in self.beside if name in look},
            mm_encoder_outputs={"image": self.encoded(features)},
            use_cache=False,
        ).last_hidden_state
        return hidden[:, prompt.shape[1] - 1 :]

    def encoded(self, features: Tensor) -> Any:
        """Features of R photos in the form that the model takes instead of pixels."""
        return BaseModelOutputWithPooling(pooler_output=list(features))

    def project(self, hidden: Tensor) -> Tensor:
        """The head, with what the language model's configuration does to logits."""
        logits: Tensor = self.model.lm_head(hidden)
        cap = getattr(self.model.config.get_text_config(), "final_logit_softcapping", None)
        return logits if cap is None else cap * torch.tanh(logits / cap)

    # -- layers -----------------------------------------------------------------------------------------------------

    def blocks(self) -> str:
        """Dotted name of the list of the tower's blocks."""
        return f"{self.tower}.encoder.layers"

    def layer(self) -> str:
        """The last block of the tower."""
        return f"{self.blocks()}.{len(self.model.get_submodule(self.blocks())) - 1}"

    def reader(self, layer: str, shape: Sequence[int], look: Look) -> Reader | None:
        """Image tokens among the text's in the language model; patches in the tower; in between the views' grids.

        Raises:
            LayerError: the embedding of tokens, where those of the photo are not filled in yet.
        """
        self.require_photo(layer)
        if layer.startswith(self.text):
            if len(shape) == 3 and shape[1] >= look.prompt.shape[1]:
                return Reader("tokens", grid=look.views.shape, order=look.context["order"][0])
            return None
        if layer.startswith(self.projector):
            return self.grid_reader(shape, look, look.views.grid, 0)
        if layer.startswith(self.tower):
            return self.grid_reader(shape, look, self.patches(look), self.prefix)
        return None

    def require_photo(self, layer: str) -> None:
        """Raise a LayerError for an embedding of the language model's."""
        name = layer.partition("@")[0]
        if name.startswith(self.text) and isinstance(self.model.get_submodule(name), nn.Embedding):
            raise LayerError(f"layer {layer!r} puts out vectors of words, none of the photo; use {self.projector!r}")

    def grid_reader(self, shape: Sequence[int], look: Look, grid: tuple[int, int], prefix: int) -> Reader | None:
        """Tokens ``[views, prefix + h · w, C]``."""
        count = look.views.count
        if len(shape) != 3 or shape[0] % count or shape[1] != prefix + grid[0] * grid[1]:
            return None
        if count == 1:
            return Reader("tokens", prefix=prefix, grid=grid)
        order = torch.arange(count)[:, None] * shape[1] + prefix + torch.arange(grid[0] * grid[1])
        return Reader("tokens", grid=(count, *grid), rows=count, order=order.view(count, *grid))

    def patches(self, look: Look) -> tuple[int, int]:
        """``(h, w)`` of the tower's patches, of each view."""
        patch = self.model.config.vision_config.patch_size
        return look.image.shape[-2] // patch, look.image.shape[-1] // patch

    # -- attention --------------------------------------------------------------------------------------------------

    def attention_layers(self) -> list[str]:
        """Self-attention of all layers of the language model."""
        count = len(self.model.get_submodule(self.text).layers)
        return [f"{self.text}.layers.{number}.self_attn" for number in range(count)]

    def attention_over_photo(self, weights: Tensor, look: dict[str, Tensor], views: Views, steps: int) -> Tensor:
        """From the places that the texts are read off to the photo's tokens."""
        start = look["prompt"].shape[1] - 1
        order = look["order"][0].flatten()
        found = weights[:, start : start + steps].index_select(2, order.clamp(min=0))
        placed: Tensor = (found * (order >= 0).to(found)).unflatten(2, views.shape)
        return placed
