"""A study with people, tried on simulated ones:  python demos/study_questionnaire.py"""

import json
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image, ImageOps

import mmexplain
from mmexplain.studies.people.answer_files import read_answers
from mmexplain.studies.people.answers import analyse, figure
from mmexplain.studies.people.cases import Case
from mmexplain.studies.people.questionnaire import questionnaire
from mmexplain.studies.people.simulated_participants import guesser, sees, simulate

classifier = mmexplain.load("efficientnet-lite0")
files = sorted(Path(str(resources.files("foolbox"))).glob("data/imagenet_*.jpg"))
cases = []
for one, other in zip(files[:10], files[10:], strict=True):  # two objects side by side: both are there
    collage = Image.new("RGB", (448, 448))
    for left, file in ((0, one), (224, other)):
        collage.paste(ImageOps.fit(Image.open(file).convert("RGB"), (224, 448)), (left, 0))
    labels = tuple(classifier.labels.shown(int(file.stem.split("_")[2])) for file in (one, other))
    explanation = classifier.explain(collage, list(labels), methods=["gradcam", "guided-gradcam"])
    cases.append(Case(" beside ".join(labels), labels, (explanation,), ((0, 1),), frozenset(labels)))
study = questionnaire(cases)
Path("questionnaire.html").write_text(study.page(), encoding="utf-8")  # for participants
Path("questionnaire.key.json").write_text(json.dumps(study.key), encoding="utf-8")  # for you

# Simulated participants: some see what Grad-CAM shows seven times in ten, some guess throughout.
gradcam = next(code for code, arm in study.key["arms"].items() if arm["method"] == "gradcam")
with TemporaryDirectory() as folder:
    people = simulate(study.key, Path(folder), 20, sees({gradcam: 0.7}), name="sees")
    people += simulate(study.key, Path(folder), 5, guesser, name="careless", attentive=False)
    found = analyse(read_answers(people, study.key))
print(found.markdown())
figure(found).savefig("answers.png")
print("wrote questionnaire.html and answers.png")
