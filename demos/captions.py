"""Caption a photo and see where each word came from:  python demos/captions.py [photo.jpg]"""

import sys

from skimage import data

import mmexplain

photo = sys.argv[1] if len(sys.argv) > 1 else data.astronaut()
captioner = mmexplain.load("show-attend-tell")

# One forward pass: the caption, and for each word Grad-CAM, Grad-CAM++ and the model's own attention.
explanation = captioner.explain(photo, methods=["gradcam", "gradcam++", "attention"])
print(explanation.text)
for number, target in enumerate(explanation.targets):
    if target.content:
        print(f"{target.label:>12}  p = {explanation.probabilities[number]:.2f}  peak at {explanation.peak(number)}")
print("wrote", explanation.save("caption.html"))

# A sentence of your own is scored and explained; phrases and contrasts are targets too.
sentence = "a smiling woman in an orange suit stands in front of a flag"
given = captioner.explain(photo, sentence, words=["flag", "orange suit"], versus={"orange": "blue"}, whole=True)
for target, score in zip(given.targets, given.scores, strict=True):
    print(f"{target.kind:>8}  {score:8.2f}  {target.label}")
print("wrote", given.save("sentence.html"))
