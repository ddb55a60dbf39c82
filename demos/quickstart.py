"""What is in a photo, and where:  python demos/quickstart.py [photo.jpg]"""

import sys

from skimage import data

import mmexplain

photo = sys.argv[1] if len(sys.argv) > 1 else data.chelsea()  # a cat
classifier = mmexplain.load("efficientnet-lite0")  # or "torchvision:resnet50", "timm:convnext_tiny", ...

# The three likeliest classes; all methods come out of the same forward pass.
explanation = classifier.explain(photo, top=3, methods=["gradcam", "gradcam++", "guided-gradcam"])
for number, target in enumerate(explanation.targets):
    print(f"{target.label:>24}  p = {explanation.probabilities[number]:.3f}  peak at {explanation.peak(number)}")

# What speaks for the first class and against the second?
first, second = explanation.targets[:2]
contrast = classifier.explain(photo, first, versus=second)
print(f"{contrast.targets[0].label}: {contrast.scores[0]:+.2f} logits, decided at {contrast.peak(0)}")

heatmap = explanation.heatmap(0)  # [H, W] in the pixels of the photo: signed, NaN where the model never looked
print(f"map of {tuple(heatmap.shape)} pixels, {heatmap.isnan().float().mean():.0%} of them unseen")
print("wrote", explanation.save("classes.html"), "and", explanation.save("classes.png"))
