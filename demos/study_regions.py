"""Does a captioner look at a region when given its caption?  python demos/study_regions.py [folder with boxes]"""

import sys
from pathlib import Path

from skimage import data

import mmexplain
from mmexplain.studies.regions.data import Region, RegionPhoto, read_regions
from mmexplain.studies.regions.figures import photos_figure
from mmexplain.studies.regions.study import regions


def stated(name, photo, **boxes):
    """A photo with boxes stated by hand: left, top, right, bottom in pixels."""
    sides = [photo.shape[1], photo.shape[0]] * 2
    cut = {phrase: tuple(edge / side for edge, side in zip(box, sides, strict=True)) for phrase, box in boxes.items()}
    return RegionPhoto(name, photo, tuple(Region(phrase.replace("_", " "), (box,)) for phrase, box in cut.items()))


if len(sys.argv) > 1:
    photos = read_regions(Path(sys.argv[1]))
else:
    suit, flag, helmet = (18, 205, 362, 512), (0, 0, 112, 512), (278, 345, 510, 512)
    photos = [
        stated("astronaut", data.astronaut(), an_orange_suit=suit, an_american_flag=flag, a_black_helmet=helmet),
        stated("coffee", data.coffee(), a_cup_of_coffee=(173, 17, 410, 285), a_red_plate=(76, 60, 478, 392)),
        stated("chelsea", data.chelsea(), a_cat=(0, 0, 370, 300)),
    ]

# The map of each phrase as if it were the whole caption: its mean inside the boxes over its mean outside.
captioner = mmexplain.load("show-attend-tell")
study, rows = regions(captioner, photos, ["gradcam", "attention"], limit=50)
print(study.markdown())
photos_figure(captioner, photos[:50]).savefig("regions.png")
print("wrote regions.png")
