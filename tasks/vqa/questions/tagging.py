"""Parts of speech of caption words: nltk's perceptron tagger, and rules for what it gets wrong in captions.

The tagger was trained on newspaper text with capitals and punctuation. In lower-case captions without either it takes
"a girl sits" for two nouns, "orange" for a noun and "hat" for a pronoun.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nltk import pos_tag, pos_tag_sents
from nltk.corpus import wordnet

from mmexplain.errors import InputError

from .nouns import is_compound, noun_kind, rather_verb, verb_lemma, word_set

Tagged = list[tuple[str, str]]

_COLOUR_NAMES = "red orange yellow green blue purple pink brown black white grey tan beige gold silver blond"
_NUMBER_NAMES = "one two three four five six seven eight nine ten"
_OTHER_NAMES = {"gray": "grey", "violet": "purple", "blonde": "blond", "golden": "gold"}

# What captions say, and how it is answered.
COLOURS = {**{name: name for name in _COLOUR_NAMES.split()}, **_OTHER_NAMES}
NUMBERS = {
    said: name for number, name in enumerate(_NUMBER_NAMES.split(), 1) for said in (str(number), name)
}  # fmt: skip

# Tags of our own, beside the Penn Treebank's.
GROUP, OF, CLAUSE, INFINITIVE, BE = "GRP", "OF", "SUB", "INF", "BE"

_GROUPS = word_set("group crowd couple pair bunch team line number pack row herd flock lot collection gang class")
_BE = word_set("is are was were am")
_CLAUSE = word_set("while as when because whilst where")
_NOUNS = word_set("hat can bicycle frisbee frisbie snow trampoline collar bridge surf mural clothing clothes tan")
_VERBS = word_set("surfs skateboards snowboards skis skates rollerblades wakeboards kayaks windsurfs")
_UNCHANGED = word_set("put set cut hit shut hurt let run come")  # participles like their infinitives
_PARTICIPLES = word_set(
    "attached chained covered decorated dressed filled gathered held lined parked perched piled pulled seated stuck "
    "surrounded suspended tied towed trapped wrapped"
)
_THINGS_IN_ING = word_set(
    "building clothing railing ring string wing king spring ceiling painting wedding evening morning swing thing "
    "something nothing anything everything sibling ping earring crossing opening icing siding landing parking "
    "boxing rigging legging lightning awning clearing bling duckling gosling outing setting during using"
)
_COMPLEX = (
    "on top of, on the top of, at the top of, in front of, in the front of, next to, in the middle of, "
    "off of, on the side of, by the side of, at the side of, on the edge of, at the edge of, out of, "
    "along side, in between, at the end of, inside of, outside of, on the back of, at the bottom of, at "
    "the base of, close to, because of, on either side of, in the back of, full of, at the foot of"
)
_PREPOSITIONS = tuple(tuple(phrase.split()) for phrase in _COMPLEX.split(", "))
_SINGLE = word_set(
    "in on at with through over by near under behind into onto across along around down up off against beside "
    "between from for toward towards past inside outside above below underneath beneath after before among about "
    "during like to without within alongside upon amongst atop"
)


def tag_sentences(sentences: Iterable[Sequence[str]]) -> list[Tagged]:
    """Words with Penn Treebank tags, and with ``GRP`` ("a group of"), ``OF``, ``SUB`` ("while"), ``INF`` ("to" before
    a verb) and ``BE`` (a finite form of "be").

    Raises:
        InputError: the tagger's or WordNet's data are not installed.
    """
    try:
        wordnet.ensure_loaded()
        pos_tag(["word"])
    except LookupError as error:
        command = "python -m nltk.downloader averaged_perceptron_tagger_eng wordnet"
        raise InputError(f"the question generator needs data of nltk: {command}") from error
    return [_mend(sentence[:-1]) for sentence in pos_tag_sents([[*words, "."] for words in sentences])]


def _acts(word: str) -> bool:
    return word in _VERBS or (verb_lemma(word) != word and rather_verb(word))


def _can_be_verb(words: Sequence[str], tags: Sequence[str], i: int) -> bool:
    """Whether the word in -s at ``i`` stands where a verb may: "a girl sits", "a dog chases birds"."""
    after = tags[i + 1][:2] if i + 1 < len(tags) else ""
    if i >= 2 and words[i - 1] in COLOURS and words[i - 2] in ("wearing", "in"):
        return True
    acts = tags[i - 1] == "NN" and noun_kind(words[i - 1]) in ("animal", "person")
    return (i > 0 and tags[i - 1] == "NN" and after not in ("NN", "VB")) or (acts and after != "VB")


def _mend(tagged: Tagged) -> Tagged:
    words = [word for word, _ in tagged]
    tags = [tag for _, tag in tagged]
    finite = False  # whether the clause has its finite verb
    end = len(words)
    for i, word in enumerate(words):
        before = tags[i - 1] if i else ""
        after, following = (tags[i + 1], words[i + 1]) if i + 1 < end else ("", "")
        tag = tags[i]
        if word in _BE:
            tag = BE
        elif word in COLOURS and (after[:2] in ("NN", "JJ", "CC", "VB") or following in COLOURS):
            tag = "JJ"
        elif word in NUMBERS and word != "one":
            tag = "CD"
        elif word == "s":
            tag = BE if before == "PRP" or after in ("VBG", "DT", "IN") else "POS"
        elif word == "of":
            tag = OF
        elif word in _GROUPS and following == "of":
            tag = GROUP
        elif word in _CLAUSE:
            tag = CLAUSE
        elif word == "to" and after == "VB":
            tag = INFINITIVE
        elif word in ("that", "who", "which"):
            tag = "WDT"
        elif tag in ("VBG", "VBN") and verb_lemma(word) == word and not (before == BE and word in _UNCHANGED):
            tag = "VBP" if before == "NNS" and not finite else "NN" if noun_kind(word) else "VB"
        elif word in _SINGLE and tag[:2] != "VB" and (after[:2] in ("DT", "PR", "NN", "JJ", "CD", "VB") or not after):
            tag = "IN" if after and after != "VBG" else "RP"
        elif (
            word in _NOUNS
            and before[:2] in ("DT", "JJ", "NN", "PR", "PO", "IN")
            and tag[:2] != "NN"
            and word not in COLOURS
        ):
            tag = "NN"
        elif tag == "VBG" and after[:2] == "NN" and before in ("IN", "JJ", OF, "CD") and is_compound(word, following):
            tag = "JJ"  # "in bathing suits"
        elif word in _THINGS_IN_ING and tag == "VBG" and before != BE:
            tag = "NN"
        elif word.endswith("ing") and tag[:2] in ("NN", "JJ") and word not in _THINGS_IN_ING and verb_lemma(word):
            if (before[:2] in ("NN", "RB", "RP", "CC") and after[:2] != "NN") or before == BE:
                tag = "VBG"
        elif word[-1] == "s" and tag in ("NN", "NNS") and not finite and _acts(word) and _can_be_verb(words, tags, i):
            tag = "VBZ"
        elif (
            tag == "NN" and before == "NNS" and not finite and rather_verb(word) and after[:2] not in ("NN", "VB", "BE")
        ):
            tag = "VBP"
        elif tag == "VBZ" and before[:2] in ("DT", "PR", "JJ", "CD") and before != "PRP":
            tag = "NNS"
        elif tag in ("VBP", "VB") and before in ("VBZ", "VBG", "DT", "PRP$", "JJ"):
            tag = "NN" if noun_kind(word) else tag
        elif (
            tag in ("VBD", "VBN")
            and before[:2] in ("DT", "JJ", "CD", "PR", "CC")
            and before != "PRP"
            and after[:2] == "NN"
        ):
            tag = "JJ"
        elif (
            tag in ("VBD", "VBN")
            and before == "NN"
            and after[:2] == "NN"
            and i > 1
            and tags[i - 2][:2] in ("DT", "JJ", "IN")
        ):
            tag = "JJ"  # "a snow covered hill"
        elif tag == "VBN" and before[:2] in ("NN", "RB") and not finite and word not in _PARTICIPLES:
            tag = "VBD"
        elif tag == "VBD" and verb_lemma(word) == word and not finite:
            tag = "VBP"
        elif tag == "VBD" and word in _PARTICIPLES:
            tag = "VBN"  # "a man dressed in"
        if tag in ("VBZ", "VBP", "VBD", BE):
            finite = True
        elif tag in (CLAUSE, "CC", "WDT"):
            finite = False
        tags[i] = tag
    for phrase in _PREPOSITIONS:
        for i in range(end - len(phrase) + 1):
            if tuple(words[i : i + len(phrase)]) == phrase and GROUP not in tags[i : i + len(phrase)]:
                tags[i : i + len(phrase)] = ["IN"] * len(phrase)
    return list(zip(words, tags, strict=True))
