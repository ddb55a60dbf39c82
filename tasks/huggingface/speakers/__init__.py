"""Families of models that write about a photo, a file each, and which class of model is of which."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmexplain.tasks.huggingface.checkpoint import Checkpoint
    from mmexplain.tasks.huggingface.speaker import Speaker

CAPTIONERS: Mapping[str, str] = {
    "Blip2ForConditionalGeneration": "blip2:Blip2",
    "BlipForConditionalGeneration": "blip:BlipCaptioner",
    "Florence2ForConditionalGeneration": "florence2:Florence2",
    "GitForCausalLM": "git:Git",
    "Idefics3ForConditionalGeneration": "idefics3:Idefics3",
    "InstructBlipForConditionalGeneration": "instructblip:InstructBlip",
    "LlavaForConditionalGeneration": "llava:Llava",
    "LlavaNextForConditionalGeneration": "llava_next:LlavaNext",
    "PaliGemmaForConditionalGeneration": "paligemma:PaliGemma",
    "Qwen2VLForConditionalGeneration": "qwen_vl:QwenVL",
    "Qwen2_5_VLForConditionalGeneration": "qwen_vl:Qwen25VL",
    "Qwen3VLForConditionalGeneration": "qwen_vl:Qwen3VL",
    "SmolVLMForConditionalGeneration": "idefics3:Idefics3",
    "VisionEncoderDecoderModel": "encoder_decoder:EncoderDecoder",
}
"""Class of a model → ``file:class`` of the family that describes photos with it."""

ANSWERERS: Mapping[str, str] = {
    "Blip2ForConditionalGeneration": "blip2:Blip2",
    "BlipForQuestionAnswering": "blip_vqa:BlipAnswerer",
    "GitForCausalLM": "git:Git",
    "Idefics3ForConditionalGeneration": "idefics3:Idefics3",
    "InstructBlipForConditionalGeneration": "instructblip:InstructBlip",
    "LlavaForConditionalGeneration": "llava:Llava",
    "LlavaNextForConditionalGeneration": "llava_next:LlavaNext",
    "PaliGemmaForConditionalGeneration": "paligemma:PaliGemma",
    "Qwen2VLForConditionalGeneration": "qwen_vl:QwenVL",
    "Qwen2_5_VLForConditionalGeneration": "qwen_vl:Qwen25VL",
    "Qwen3VLForConditionalGeneration": "qwen_vl:Qwen3VL",
    "SmolVLMForConditionalGeneration": "idefics3:Idefics3",
}
"""The same for those that answer questions in words of their own."""


def speaker_of(checkpoint: Checkpoint, families: Mapping[str, str]) -> Speaker:
    """The family of a model, taken apart for the engine."""
    module, _, name = families[checkpoint.architecture].partition(":")
    found: Speaker = getattr(import_module(f"{__name__}.{module}"), name)(checkpoint)
    return found
