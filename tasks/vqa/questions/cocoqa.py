"""Questions out of captions, by the procedure that made COCO-QA.

Mengye Ren, Ryan Kiros, Richard Zemel, "Exploring Models and Data for Image Question Answering", NIPS 2015: split
compound sentences into clauses, make indefinite determiners definite, move the wh-word to the front with the auxiliary
behind it, never out of a clause, a conjunction or a noun phrase (the A-over-A principle); ask for objects, numbers,
colours and locations. What differs: a chunk grammar takes the parser's place (:mod:`.clauses`), and people are
asked for too ("who").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .clauses import Clause, NounPhrase, Parse, Prepositional, parse
from .nouns import PLACES, VAGUE, compound_is_kind_of, is_concrete, noun_kind, singular, verb_lemma, word_set
from .question import Question
from .sources import Caption
from .tagging import COLOURS, NUMBERS, tag_sentences

# "what is the man dressed as" and the like: these prepositions do not stay behind.
_NOT_STRANDED = word_set("in as like during before after without within inside outside for among amongst about") | {
    *("because of", "out of", "full of", "in the middle of", "on the side of", "on the edge of", "at the edge of")
}
_WHERE = word_set("in at on inside through across along outside into down up onto over around")
_NO_OBJECTS = word_set("have be make do take get give perform use include show seem look appear")
_TRANSITIVE = word_set("watching holding wearing getting having making taking using facing looking trying")
_SHADES = word_set("light dark bright pale colored coloured color one")  # they would give a colour away
_NO_COLOUR = frozenset({"person", "act", "time", "attribute", "cognition", "state", "event", "communication", "group"})
_LONGEST = 14


def generate(captions: Sequence[Caption]) -> list[Question]:
    """All questions of the captions, in their order; a photo gets the same question with the same answer only once.

    Questions that hold their own answer (:func:`gives_away`) are left out.
    """
    questions: dict[tuple[str, str, str], Question] = {}
    for caption, tagged in zip(captions, tag_sentences(caption.words for caption in captions), strict=True):
        for kind, text, answer, phrase in ask(parse(tagged)):
            if len(text.split()) <= _LONGEST and not gives_away(text, answer):
                question = Question(caption.photo, caption.split, text, answer, kind, caption.number, phrase)
                questions.setdefault((caption.photo, text, answer), question)
    return list(questions.values())


def gives_away(text: str, answer: str) -> bool:
    """Whether a word of ``text`` is ``answer``, in whatever form: singular, plural, possessive, or as a verb.

    "what are the dogs pulling in the sled race" can be answered (sled) without the photo, and so can "what is the man
    skateboarding on". The forms are those of WordNet, which has an entry of its own for "men".
    """
    sought = _forms(answer)
    return any(sought & _forms(word) for word in text.split())


def _forms(word: str) -> set[str]:
    word = word.removesuffix("'s")
    word = COLOURS.get(word) or NUMBERS.get(word) or word
    return {word, singular(word), verb_lemma(word) or word}


Asked = tuple[str, str, str, tuple[int, int]]  # kind, text, answer, phrase


def ask(sentence: Parse) -> Iterator[Asked]:
    """Kind, text, answer and phrase of every question that a parsed caption gives."""
    for clause in sentence.clauses:
        yield from _objects(clause)
        yield from _locations(clause)
    yield from _numbers(sentence)
    yield from _colours(sentence)


def _phrase(noun: NounPhrase) -> tuple[int, int]:
    return noun.first, noun.head


def _nameable(noun: NounPhrase) -> bool:
    """Whether one word of ``noun`` can be the answer to "what": not "cream" for "ice cream"."""
    place = noun.head - noun.first
    before = noun.words[place - 1] if place and noun.tags[place - 1][:2] in ("NN", "JJ") else ""
    if before in COLOURS:
        before = ""  # WordNet knows a "black cat" that is a marten
    return not noun.compound and is_concrete(noun.noun) and (not before or compound_is_kind_of(before, noun.noun))


def _wh(noun: NounPhrase) -> str:
    return "who" if noun.kind == "person" else "what"


def _subject(clause: Clause) -> str:
    """The subject with the modifier that tells it from others: "the girl in the blue shirt"."""
    said = clause.subject.definite()
    first = clause.modifiers[0] if clause.modifiers else None
    if first is not None and first.preposition in ("in", "with") and len(first.noun.words) <= 4:
        said += " " + first.text()
    return said


def _inverted(clause: Clause, subject: str | None = None) -> str:
    """Auxiliary, subject, verb: "is the man riding", "does the man ride"."""
    plural = clause.subject.plural
    subject = subject or _subject(clause)
    if clause.form == "simple":
        return f"{'do' if plural else 'does'} {subject} {' '.join(clause.verb)}"
    return f"{'are' if plural else 'is'} {subject} {' '.join(clause.verb)}".rstrip()


def _third_person(verb: str) -> str:
    if verb == "have":
        return "has"
    if verb.endswith(("s", "sh", "ch", "x", "z", "o")):
        return verb + "es"
    if verb.endswith("y") and verb[-2:-1] not in "aeiou":
        return verb[:-1] + "ies"
    return verb + "s"


def _asserted(clause: Clause) -> str:
    """The verb behind "who" or "what", which are singular."""
    if clause.form == "simple":
        return " ".join((_third_person(clause.verb[0]), *clause.verb[1:]))
    return " ".join(("is", *clause.verb))


def _rest(clause: Clause, thing: bool = True, places: Sequence[Prepositional] = ()) -> str:
    parts = [clause.object.text()] if thing and clause.object is not None else []
    return "".join(" " + part for part in (*parts, *clause.particles, *(place.text() for place in places)))


def _objects(clause: Clause) -> Iterator[Asked]:
    if clause.form == "none":
        return
    verb = clause.verb[-1] if clause.verb else "be"
    if _nameable(clause.subject) and (
        clause.object is not None or clause.places or (clause.form == "doing" and verb not in _TRANSITIVE)
    ):
        text = f"{_wh(clause.subject)} {_asserted(clause)}{_rest(clause, places=clause.places[:2])}"
        yield "object", text, clause.subject.noun, _phrase(clause.subject)
    if clause.object is not None and _nameable(clause.object) and (verb == "have" or verb not in _NO_OBJECTS):
        behind = [place for place in clause.places[:1] if place.preposition in ("in", "on", "with")]
        text = f"{_wh(clause.object)} {_inverted(clause)}{_rest(clause, False, behind)}"
        yield "object", text, clause.object.noun, _phrase(clause.object)
    if clause.object is None and clause.places:
        place = clause.places[0]
        asked = _is_location(place)
        if (
            place.preposition not in _NOT_STRANDED
            and not asked
            and _nameable(place.noun)
            and place.noun.noun != "camera"
        ):
            text = f"{_wh(place.noun)} {_inverted(clause)}{_rest(clause)} {place.preposition}"
            yield "object", text, place.noun.noun, _phrase(place.noun)


def _is_location(place: Prepositional) -> bool:
    return place.preposition in _WHERE and place.noun.noun in PLACES and not place.noun.compound


def _locations(clause: Clause) -> Iterator[Asked]:
    for place in clause.places:
        if _is_location(place) and place.preposition in ("in", "at", "on", "inside", "through", "across", "along"):
            text = f"where {_inverted(clause)}{_rest(clause)}"
            yield "location", text, place.noun.noun, _phrase(place.noun)
            return


def _numbers(sentence: Parse) -> Iterator[Asked]:
    for noun in sentence.nouns:
        counts = [i for i, (word, tag) in enumerate(zip(noun.words, noun.tags, strict=True)) if tag == "CD"]
        if len(counts) != 1 or noun.compound or (noun.tags[noun.head - noun.first] != "NNS" and not noun.plural):
            continue
        at = counts[0]
        if noun.words[at] in ("one", "1") or "other" in noun.words or noun.noun == "others":
            continue  # "one dog" is said of one among several
        if noun.words[at] not in NUMBERS or at > noun.head - noun.first:
            continue
        counted = " ".join(noun.words[at + 1 : noun.head - noun.first + 1]).replace(" s ", "'s ")
        if not counted or noun.noun in VAGUE or noun_kind(noun.noun) in ("time", "quantity"):
            continue
        text = ""
        for clause in sentence.clauses:
            if clause.subject is noun and clause.form != "doing" and not (clause.object or clause.places):
                continue
            if clause.subject is noun and clause.form in ("doing", "done", "be"):
                text = f"how many {counted} are {' '.join(clause.verb)}{_rest(clause, places=clause.places[:2])}"
            elif clause.subject is noun and clause.form == "simple":
                text = f"how many {counted} {' '.join(clause.verb)}{_rest(clause, places=clause.places[:2])}"
            elif clause.object is noun and clause.form != "none":
                text = f"how many {counted} {_inverted(clause)}{_rest(clause, False)}"
            if text:
                break
        yield (
            "number",
            " ".join((text or f"how many {counted} are there").split()),
            NUMBERS[noun.words[at]],
            _phrase(noun),
        )


def _colours(sentence: Parse) -> Iterator[Asked]:
    heads = [singular(noun.noun) for noun in sentence.nouns]
    for noun in sentence.nouns:
        stop = noun.head - noun.first
        colours = [i for i in range(stop) if noun.words[i] in COLOURS and noun.tags[i] in ("JJ", "NN")]
        if len(colours) != 1 or noun.compound or "CC" in noun.tags[:stop] or noun.kind in _NO_COLOUR:
            continue
        at = colours[0]
        if noun.noun in VAGUE or heads.count(singular(noun.noun)) > 1 or noun.words[at] == noun.noun:
            continue
        named = NounPhrase(noun.first, noun.head, noun.head, noun.words[: stop + 1], noun.tags[: stop + 1])
        shades = [i for i, word in enumerate(named.words) if word in _SHADES or word.endswith("ish")]
        text = f"what is the colour of {named.definite(*(noun.first + i for i in (at, *shades)))}"
        yield "colour", text, COLOURS[noun.words[at]], _phrase(noun)
