"""What was the model looking at when it was wrong?  python demos/study_failures.py [folder [model]]"""

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import mmexplain
from mmexplain.studies.failures.study import failures

classifier = mmexplain.load(sys.argv[2] if len(sys.argv) > 2 else "efficientnet-lite0")
if len(sys.argv) > 1:
    photos = Path(sys.argv[1])  # of one folder for each class, or of COCO's, VOC's or ImageNet's layout
else:
    photos = Path("photos")  # 20 of ImageNet's come with foolbox, the number of the class in the name
    for file in sorted((Path(find_spec("foolbox").origin).parent / "data").glob("imagenet_*.jpg")):
        folder = photos / classifier.labels[int(file.stem.rpartition("_")[2])]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder)

found = failures(classifier, photos, worst=6)
for failure in found.worst:
    photo = failure.photo
    print(
        f"{photo.labels['predicted']} ({photo.confidence:.0%}) for {photo.labels['true']} "
        f"({photo.probabilities['true']:.1%}, rank {photo.rank}); overlap of the two maps {photo.overlaps['true']:.2f}"
    )
for control in found.study.controls:
    print("held:" if control.held else "failed:", control.what, control.found)
print("wrote", ", ".join(path.name for path in found.save(Path())))
