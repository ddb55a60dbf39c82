"""Ask a photo, and have answers considered:  python demos/answers.py [photo.jpg [question [answer answer ...]]]"""

import sys

from skimage import data

import mmexplain

photo = sys.argv[1] if len(sys.argv) > 1 else data.astronaut()
question = sys.argv[2] if len(sys.argv) > 2 else "what is the colour of the suit"
answers = sys.argv[3:] or ["orange", "blue"]
answerer = mmexplain.load("deeper-lstm-norm-i")

# The model's own answer and those it is made to consider, in one pass, with what each word of the question added.
explanation = answerer.explain(photo, question, answers, versus=[tuple(answers[:2])] if answers[1:] else (), text="all")
for number, target in enumerate(explanation.targets):
    added = zip(explanation.words, explanation.words_read(number), strict=True)
    print(f"{target.label}: p = {explanation.probabilities[number]:.2f}, peak at {explanation.peak(number)}")
    print("   ", "  ".join(f"{word} {value:+.1f}" for word, value in added))
print("wrote", explanation.save("answers.html"))
