"""Which map to trust:  python demos/methods_and_trust.py [photo.jpg [model]]"""

import sys

from skimage import data

import mmexplain
from mmexplain.evaluate.randomisation import quick
from mmexplain.methods import METHODS

photo = sys.argv[1] if len(sys.argv) > 1 else data.chelsea()
classifier = mmexplain.load(sys.argv[2] if len(sys.argv) > 2 else "efficientnet-lite0")
methods = ["gradcam", "gradcam++", "eigencam", "guided-gradcam"]

explanation = classifier.explain(photo, top=2, methods=methods)
for method in methods:
    print(f"{method:>15}  {METHODS[method].summary}; {METHODS[method].cost}")

# Would the maps look the same if the model had learned nothing?
for verdict in quick(classifier, photo, explanation, methods=methods, draws=2):
    print(verdict.line())

# Does the score depend on what a map marks? Black out the strongest fifth of the photo, and look again.
target, pixels = explanation.targets[0], explanation.picture.pixels
print(f"{target.label}: p = {explanation.probabilities[0]:.2f}; without what a method marks:")
for method in methods:
    heat = explanation.heatmap(0, method=method, size=pixels.shape[:2]).nan_to_num()
    weaker = heat.flatten().argsort(descending=True).argsort().view_as(heat) >= heat.numel() // 5
    changed = classifier.explain((pixels * weaker[..., None]).numpy(), target)
    print(f"{method:>15}  p = {changed.probabilities[0]:.2f}")
print("wrote", explanation.save("methods.html"), "and", explanation.save("methods.png"))
