"""Explain a classifier of your own:  python demos/own_classifier.py photo.jpg"""

import sys

import torch
from torch import nn

from mmexplain.tasks.classification.task import Classifier

photo = sys.argv[1] if len(sys.argv) > 1 else "photo.jpg"
torch.manual_seed(0)

# Any module that maps [B, 3, h, w] to class scores will do; this one is not even trained.
model = nn.Sequential(
    nn.Conv2d(3, 16, 5, stride=4, padding=2),
    nn.ReLU(inplace=True),
    nn.Conv2d(16, 32, 3, stride=2, padding=1),
    nn.ReLU(inplace=True),
    nn.AdaptiveAvgPool2d(1),
    nn.Flatten(),
    nn.Linear(32, 3),
)

# Without transforms, photos are prepared as for ImageNet; torchvision's evaluation transforms are taken as they are.
classifier = Classifier(model, labels=["circle", "square", "triangle"], model_id="three shapes")
print("explained by default: layer", classifier.default_layer())

explanation = classifier.explain(photo, ["circle", "square"], layers=["1", "3"], methods=["gradcam", "guided-backprop"])
for key, number, values in explanation.each_map():
    print(f"{explanation.targets[number].label:>8}  {key.method:>16} at {key.layer:<5}  map {tuple(values.shape)}")
print("wrote", explanation.save("own.html"))
