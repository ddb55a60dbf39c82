"""Caption a photo and see where each word came from:  python demos/caption_photo.py photo.jpg"""

import sys

import mmexplain

photo = sys.argv[1] if len(sys.argv) > 1 else "photo.jpg"
captioner = mmexplain.load("show-attend-tell")

# One forward pass: the caption, and for each word Grad-CAM, Grad-CAM++ and the model's own attention.
explanation = captioner.explain(photo, methods=["gradcam", "gradcam++", "attention"])
print(explanation.text)
for target in explanation.targets:
    if target.content:
        number = explanation.find(target)
        print(f"{target.label:>12}  p = {explanation.probabilities[number]:.2f}  peak at {explanation.peak(number)}")
explanation.save("caption.html")

# A sentence of your own is scored and explained; phrases and contrasts are targets too.
surest = max((t for t in explanation.targets if t.content), key=lambda t: explanation.scores[explanation.find(t)])
word, other = surest.label, "cat" if surest.label != "cat" else "dog"
contrast = captioner.explain(photo, explanation.text, words=[word], versus={word: other}, whole=True)
for target, score in zip(contrast.targets, contrast.scores, strict=True):
    print(f"{target.kind:>8}  {score:8.2f}  {target.label}")
contrast.save("contrast.html")
print("wrote caption.html and contrast.html")
