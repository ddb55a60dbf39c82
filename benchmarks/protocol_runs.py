"""What ``protocols.py`` measures: models, data, methods, and what the papers report beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

RESNET50 = "ResNet-50 (Keras)"
EFFICIENTNET = "efficientnet-lite0"
CAPTIONER = "show-attend-tell"
I3D = "i3d-kinetics400"
VQA = ("deeper-lstm-norm-i", "hierarchical-coattention")

LAYER_METHODS = ("gradcam", "gradcam++", "gradcam++-normalized", "hirescam", "layercam", "xgradcam", "eigencam")
EARLIER = "layer3"
"""Of ResNet-50: after its last stage come average pooling and one linear layer, where the ablations coincide."""

ABLATIONS = ("gradcam-no-relu", "gradcam-absolute", "gradcam-max", "gradcam-guided-relu", "gradcam-deconv-relu")
WORDS = ("gradcam", "gradcam++", "layercam", "hirescam", "attention")
FIVE = ("gradcam", "gradcam++", "hirescam", "layercam", "xgradcam")
MASKS = ("drop", "increase", "win")
PIXELS = ("guided-gradcam", "guided-backprop", "c-mwp")


@dataclass(frozen=True)
class Run:
    """One table.

    Attributes:
        protocol: by name.
        model: as for ``mmexplain.load``, or :data:`RESNET50`.
        data: below ``--data``.
        methods: that are measured.
        limit: items at most.
        options: of the protocol.
        shown: label → its values whose lines stand in RESULTS.md; the file of the whole table has all.
        tag: what sets it apart from the model's other run of the protocol.
    """

    protocol: str
    model: str
    data: str
    methods: Sequence[str]
    limit: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    shown: Mapping[str, Sequence[str]] = field(default_factory=dict)
    tag: str = ""

    @property
    def title(self) -> str:
        """The model, and what sets the run apart."""
        return f"{self.model}, {self.tag}" if self.tag else self.model

    @property
    def name(self) -> str:
        """Of its folder, and of the file of its whole table."""
        model = "".join(letter if letter.isalnum() or letter == "-" else "-" for letter in self.title).strip("-")
        return f"{self.protocol}_{model}"


_PHRASES = {"phrase": ("all",)}
_SUBSETS = {"subset": ("all", "difficult", "top 5, reject below 25%")}
_AGAINST = {"against": ("", "gradcam")}

RUNS = (
    Run("grounding", CAPTIONER, "flickr8k", WORDS, options={"captions": 1}, shown=_PHRASES),
    Run("grounding", "show-and-tell", "flickr8k", WORDS[:-1], options={"captions": 1}, shown=_PHRASES),
    Run("generated-grounding", CAPTIONER, "coco_mini", WORDS),
    Run("generated-grounding", "show-and-tell", "coco_mini", WORDS[:-1]),
    *(Run("answer-grounding", model, "flickr8k", WORDS[:-1], limit=300, shown={"question": ("all",)}) for model in VQA),
    Run("pointing", EFFICIENTNET, "coco_mini", LAYER_METHODS, shown=_SUBSETS),
    Run("pointing", RESNET50, "coco_mini", (*LAYER_METHODS, *ABLATIONS), shown=_SUBSETS),
    *(
        Run(
            protocol,
            RESNET50,
            "coco_mini",
            ("gradcam", *ABLATIONS),
            options={"layer": EARLIER},
            shown=_SUBSETS if protocol == "pointing" else {},
            tag=EARLIER,
        )
        for protocol in ("pointing", "localisation")
    ),
    Run("localisation", EFFICIENTNET, "coco_mini", LAYER_METHODS),
    Run("localisation", RESNET50, "coco_mini", (*LAYER_METHODS, *ABLATIONS)),
    Run(
        "faithfulness",
        EFFICIENTNET,
        "coco_mini",
        FIVE,
        limit=16,
        options={"metrics": (*MASKS, "insertion", "deletion", "correlation")},
        shown=_AGAINST,
    ),
    Run(
        "faithfulness",
        RESNET50,
        "coco_mini",
        (*FIVE, *PIXELS),
        limit=60,
        options={"metrics": MASKS},
        shown=_AGAINST,
    ),
    Run("faithfulness", CAPTIONER, "coco_mini", WORDS, limit=60, options={"metrics": MASKS}, shown=_AGAINST),
    *(
        Run("faithfulness", model, "daquar", FIVE, limit=40, options={"metrics": MASKS}, shown=_AGAINST)
        for model in VQA
    ),
    Run(
        "faithfulness",
        I3D,
        "samples",
        ("gradcam", "gradcam++"),
        options={"metrics": MASKS},
        shown=_AGAINST,
    ),
    Run(
        "faithfulness",
        EFFICIENTNET,
        "coco_mini",
        ("gradcam", "gradcam++", "layercam"),
        limit=12,
        options={"metrics": ("road", "infidelity", "sensitivity")},
        tag="metrics that take long",
    ),
    Run("human-attention", EFFICIENTNET, "human_attention", ("gradcam", "gradcam++", "guided-gradcam")),
    Run("human-attention", CAPTIONER, "human_attention", ("gradcam", "gradcam++", "attention")),
    Run("randomisation", EFFICIENTNET, "coco_mini", ("gradcam", "gradcam++", "layercam", "guided-backprop"), limit=12),
    Run("randomisation", CAPTIONER, "coco_mini", ("gradcam", "gradcam++", "layercam", "attention"), limit=12),
    Run("randomisation", VQA[0], "daquar", ("gradcam", "gradcam++", "layercam"), limit=12),
)

PUBLISHED = {
    "grounding": "beyond the two papers. From memory, not checked: a centre guess on Flickr30k Entities scores about "
    "49 %, caption-guided saliency (CVPR 2017) about 50 %: other photos, another model; only the distance to the "
    "centre compares. The ratio inside / outside of DenseCap's boxes (Grad-CAM, IJCV): Grad-CAM 3.27 ± .18, Guided "
    "Grad-CAM 6.38 ± .99, uniform 1.0.",
    "generated-grounding": "Grad-CAM (IJCV text): Show and Tell, 830 words, 80 COCO classes, 1,000 images: 30.0 %. "
    "Here 159 photos and another model: not comparable in level.",
    "answer-grounding": "beyond the two papers, whose VQA section shows examples only. The questions are generated "
    "from captions and boxes, so that answers have boxes.",
    "pointing": "Grad-CAM on COCO, all/difficult: VGG-16 54.2/49.0, ResNet-50 57.3/52.3, models trained on COCO's "
    "classes. The variant that scores the top-5 predictions and may reject one whose maximum is below a threshold: "
    "Grad-CAM 70.58 %, c-MWP 60.30 %. Here ImageNet classifiers whose classes are matched through WordNet, and 159 "
    "photos.",
    "localisation": "ILSVRC-15 val, error top-1/top-5: VGG-16 56.51/46.41, AlexNet 68.3/56.6, GoogLeNet 60.09/49.34. "
    "Loc(δ), the share of what exceeds δ that lies inside the box, VOC12 val, Grad-CAM++ / Grad-CAM: δ = 0 .34/.33, "
    "δ = .25 .38/.28, δ = .5 .28/.16. Here COCO photos with many objects: errors are larger, only the order of methods "
    "compares.",
    "faithfulness": "Grad-CAM++ / Grad-CAM, ResNet-50, ImageNet: average drop 28.90/30.36 %, increase 22.16/22.11 %, "
    "win 60.51/39.49 %; C3D, 3,000 clips of Sports-1M: 59.79/95.26 %, 6.68/0.84 %, 94.09/5.91 %. Rank correlation with "
    "occlusion (VOC07 val, 2,510 photos): Grad-CAM .254, Guided Grad-CAM .261, guided backpropagation .168, c-MWP "
    ".220, CAM .208; of VQA: Grad-CAM .60 ± .038, guided backpropagation .42 ± .038. Here other photos and other "
    "models.",
    "human-attention": "VQA-HAT (1,374 validation questions, maps on 14 × 14): Grad-CAM .136. From memory, not "
    "checked: SAN-2 .249, HieCoAtt .246 to .264, between people .623. Here photos were viewed freely: not comparable.",
    "randomisation": "Adebayo et al. 2018: Grad-CAM changes with the weights, guided backpropagation hardly does.",
}
"""What the papers report, and what of it compares."""
