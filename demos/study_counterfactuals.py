"""What speaks against a class, taken out:  python demos/study_counterfactuals.py [folder of photos [model]]"""

import sys
from pathlib import Path

import foolbox

import mmexplain
from mmexplain.render.page import save_page
from mmexplain.studies.counterfactuals.figure import examples, examples_figure
from mmexplain.studies.counterfactuals.study import Counterfactuals

# Twenty photos of ImageNet's kind, each asked about its likeliest class.
photos = Path("counterfactual_photos")
if len(sys.argv) < 2:
    photos.mkdir(exist_ok=True)
    for path in (Path(foolbox.__file__).parent / "data").glob("imagenet_*.jpg"):
        (photos / path.name).write_bytes(path.read_bytes())
classifier = mmexplain.load(sys.argv[2] if len(sys.argv) > 2 else "efficientnet-lite0")
study = Counterfactuals(classifier, sys.argv[1] if len(sys.argv) > 1 else photos, fills=["inpaint"])
found = study.run()

# By how much ln p changes without a region, in the mean.
for row in found.tables[0].cells():
    print(f"{row[0]:>17}  ln p {row[1]:>22}   surer {row[2]} %")
for control in found.controls:
    print("held: " if control.held else "FAILED: ", control.what, control.found)
print("wrote", save_page(examples_figure(examples(study)), Path("counterfactuals.png")))
