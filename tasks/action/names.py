"""The names of action models. Imports nothing, so that they can be listed at once."""

from __future__ import annotations

I3D = "i3d-kinetics400"
C3D = "c3d"
TORCHVISION = (
    "r3d_18",
    "mc3_18",
    "r2plus1d_18",
    "s3d",
    "mvit_v1_b",
    "mvit_v2_s",
    "swin3d_t",
    "swin3d_s",
    "swin3d_b",
)
FORMS = (I3D, "torchvision:r3d_18", "torchvision:r3d_18@FILE", "c3d@FILE")


def is_action_model(architecture: str) -> bool:
    """Whether an identifier without its ``@FILE`` names an action model, by its form."""
    family, _, name = architecture.partition(":")
    return architecture in (I3D, C3D) or (family == "torchvision" and name in TORCHVISION)
