"""Who does what, where: the clauses of a tagged caption.

COCO-QA reads the trees of the Stanford parser. Here noun phrases are chunked by a small regular grammar
(:class:`nltk.RegexpParser`) and put together, left to right, into clauses of one subject, one verb group, at most one
object and the prepositional phrases behind them. A sentence ends up as several clauses, as in the paper's step of
splitting compound sentences; what is ambiguous without a tree (who does the thing in "a man with a dog running") is
left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from nltk import RegexpParser, Tree

from .nouns import VAGUE, noun_kind, verb_lemma, word_set
from .tagging import BE, CLAUSE, GROUP, INFINITIVE, NUMBERS, Tagged

_PARSER = RegexpParser(
    r"""
    NP: {<PDT>?<DT|PRP\$|CD>(<RB>?<CD|JJ.*>)*<VBG>?<JJ.*>*<NN.*>+}
    NP: {<CD|JJ.*>*<NN.*>+}
    NP: {<PDT>?<DT|PRP\$|CD>?<CD>?<JJ.*>+<CC><NP>}
    NP: {<NP><POS><NP>}
    NP: {<DT>?<JJ.*>*<GRP><OF><NP>}
    NPOF: {<NP><OF><NP>}
    """
)
_ANIMATE = frozenset({"person", "animal"})
_QUANTITIES = word_set("number lot couple bunch variety pair")  # "a number of people" are people
_PARTICLES = word_set("up down off out away around back over together along by upside forward outside inside on")


@dataclass(frozen=True)
class NounPhrase:
    """Words ``first`` .. ``last`` of a caption; ``head`` is the position of its noun ("cup" in "a cup of tea")."""

    first: int
    last: int
    head: int
    words: tuple[str, ...]
    tags: tuple[str, ...]
    compound: bool = False  # "a man and a woman": has no one head

    @property
    def noun(self) -> str:
        """The head noun."""
        return self.words[self.head - self.first]

    @property
    def plural(self) -> bool:
        """Whether it takes a plural verb."""
        if GROUP in self.tags and self.words[self.tags.index(GROUP)] not in _QUANTITIES:
            return False
        return (
            self.compound
            or self.tags[self.head - self.first] == "NNS"
            or self.noun in ("people", "men", "women", "children")
        )

    @property
    def kind(self) -> str:
        """:func:`~mmexplain.tasks.vqa.questions.nouns.noun_kind` of the head noun."""
        return noun_kind(self.noun)

    def text(self, *skip: int) -> str:
        """Its words with definite determiners, as COCO-QA asks; without the words at the positions ``skip``."""
        begin = self.first
        if GROUP in self.tags and self.words[self.tags.index(GROUP)] in _QUANTITIES:
            begin += self.tags.index(GROUP) + 2
        words = [
            word for position, word in enumerate(self.words, self.first) if position >= begin and position not in skip
        ]
        said: list[str] = []
        for i, word in enumerate(words):
            following = words[i + 1] if i + 1 < len(words) else ""
            if word == "s" and said:
                said[-1] += "'s"
            elif word in ("a", "an", "some", "this", "that", "these", "those") and following != "lot":
                said.append("the")
            elif word == "another":
                said.extend(("the", "other"))
            else:
                said.append(NUMBERS.get(word, word))
        return " ".join(said)

    def definite(self, *skip: int) -> str:
        """:meth:`text` with "the" in front where nothing of the kind stands there."""
        text = self.text(*skip)
        first = text.split()[0] if text else ""
        bare = first not in ("the", "his", "her", "its", "their", "my", "your", "our", "each", "both", "all", "every")
        return f"the {text}" if bare else text


@dataclass(frozen=True)
class Prepositional:
    """A preposition of one or several words ("in front of") and its noun phrase."""

    preposition: str
    noun: NounPhrase

    def text(self) -> str:
        """Its words, the noun phrase definite where it has an article."""
        return f"{self.preposition} {self.noun.text()}"


@dataclass(frozen=True)
class Clause:
    """One statement of a caption.

    Attributes:
        subject: of the verb.
        modifiers: prepositional phrases of the subject.
        form: ``doing`` ("is riding", also "riding" alone), ``simple`` ("rides"), ``done`` ("is covered"), ``be``
            ("is" and a prepositional phrase) or ``none`` (a caption without a verb).
        verb: the words of the verb without the auxiliary; the infinitive first, for ``simple``.
        particles: adverbs behind verb and object.
        object: direct object.
        places: prepositional phrases behind the verb, in order.
    """

    subject: NounPhrase
    modifiers: tuple[Prepositional, ...]
    form: str
    verb: tuple[str, ...] = ()
    particles: tuple[str, ...] = ()
    object: NounPhrase | None = None
    places: tuple[Prepositional, ...] = ()


@dataclass(frozen=True)
class Parse:
    """The noun phrases of a caption, in order, and its clauses."""

    nouns: tuple[NounPhrase, ...]
    clauses: tuple[Clause, ...]


def parse(tagged: Tagged) -> Parse:
    """Chunks a tagged caption (:func:`~mmexplain.tasks.vqa.questions.tagging.tag_sentences`) and reads its clauses."""
    if not tagged:
        return Parse((), ())
    items: list[NounPhrase | tuple[str, str]] = []
    nouns: list[NounPhrase] = []
    position = 0
    for node in _PARSER.parse(tagged):
        if not isinstance(node, Tree):
            items.append(node)
            position += 1
            continue
        leaves = node.leaves()
        inner = len(node[0].leaves()) if node.label() == "NPOF" else len(leaves)
        words, tags = zip(*leaves, strict=True)
        phrase = NounPhrase(position, position + len(leaves) - 1, position + inner - 1, words, tags)
        items.append(phrase)
        nouns.append(phrase)
        if node.label() == "NPOF":
            begin = position + inner + 1
            nouns.append(NounPhrase(begin, phrase.last, phrase.last, words[inner + 1 :], tags[inner + 1 :]))
        position += len(leaves)
    return Parse(tuple(nouns), tuple(_Reader(items).clauses()))


class _Reader:
    """Reads clauses from left to right."""

    def __init__(self, items: list[NounPhrase | tuple[str, str]]) -> None:
        self.items = items
        self.i = 0

    def noun(self, ahead: int = 0) -> NounPhrase | None:
        """The noun phrase ``ahead`` of the reading position."""
        item = self.items[self.i + ahead] if self.i + ahead < len(self.items) else None
        return item if isinstance(item, NounPhrase) else None

    def tag(self, ahead: int = 0) -> str:
        item = self.items[self.i + ahead] if self.i + ahead < len(self.items) else None
        return item[1] if isinstance(item, tuple) else ""

    def word(self, ahead: int = 0) -> str:
        item = self.items[self.i + ahead] if self.i + ahead < len(self.items) else None
        return item[0] if isinstance(item, tuple) else ""

    def starts_clause(self, ahead: int) -> bool:
        """Whether the noun phrase ``ahead`` is the subject of a verb of its own."""
        noun = self.noun(ahead)
        while self.tag(ahead + 1) == "RB":
            ahead += 1
        # "a boy in a shirt and shorts is running": things rather belong to what went before
        return noun is not None and noun.kind in _ANIMATE and self.tag(ahead + 1)[:2] in ("VB", "BE")

    def joined(self) -> NounPhrase:
        """The noun phrase here, with those that "and" adds to it, unless they start a clause."""
        phrase = self.noun()
        assert phrase is not None
        self.i += 1
        while self.tag() == "CC" and (other := self.noun(1)) is not None and not self.starts_clause(1):
            words, tags = (*phrase.words, self.word(), *other.words), (*phrase.tags, "CC", *other.tags)
            phrase = NounPhrase(phrase.first, other.last, other.head, words, tags, compound=True)
            self.i += 2
        return phrase

    def prepositionals(self) -> list[Prepositional]:
        phrases: list[Prepositional] = []
        while self.tag() in ("IN", "TO"):
            begin, preposition = self.i, []
            while self.tag() in ("IN", "TO"):
                preposition.append(self.word())
                self.i += 1
            if self.noun() is None or (
                phrases and self.starts_clause(0) and self.tag(1) != "VBG" and self.tag(1) != "VBN"
            ):
                self.i = begin
                break
            phrases.append(Prepositional(" ".join(preposition), self.joined()))
        return phrases

    def subject(self) -> NounPhrase:
        """Here "and" joins in any case: what follows is the verb of both."""
        phrase = self.noun()
        assert phrase is not None
        self.i += 1
        while self.tag() == "CC" and (other := self.noun(1)) is not None:
            words, tags = (*phrase.words, self.word(), *other.words), (*phrase.tags, "CC", *other.tags)
            phrase = NounPhrase(phrase.first, other.last, other.head, words, tags, compound=True)
            self.i += 2
        return phrase

    def clauses(self) -> list[Clause]:
        subject: NounPhrase | None = None
        modifiers: list[Prepositional] = []
        nearest: NounPhrase | None = None  # the noun phrase right in front of the reading position
        found: list[Clause] = []
        while self.i < len(self.items):
            tag = self.tag()
            if self.noun() is not None:
                if subject is None:
                    subject = self.subject()
                    modifiers = self.prepositionals()
                    nearest = modifiers[-1].noun if modifiers else subject
                else:
                    nearest = self.joined()
            elif tag == "EX" or (tag == BE and subject is None):
                self.i += 1
                if self.tag() == BE:
                    self.i += 1
            elif tag in (BE, "VBZ", "VBP", "VBG", "VBN") and subject is not None:
                finite = tag in (BE, "VBZ", "VBP")
                doer: NounPhrase | None = subject
                if not finite and nearest is not None and nearest is not subject:
                    others_may = nearest.kind in _ANIMATE or subject.kind not in _ANIMATE
                    doer = None if tag == "VBN" or others_may else subject
                clause = self.predicate(doer or subject, modifiers if doer is subject else [])
                if clause is not None and doer is not None and doer.noun in VAGUE:
                    doer = None
                if clause is not None:
                    nearest = clause.places[-1].noun if clause.places else clause.object or nearest
                    if doer is not None:
                        found.append(clause)
            elif tag == "WDT":
                self.i += 1
                owner = nearest
                if owner is not None and self.tag() in (BE, "VBZ", "VBP"):
                    clause = self.predicate(owner, modifiers if owner is subject else [])
                    if clause is not None and (owner is subject or not modifiers or owner is not modifiers[-1].noun):
                        found.append(clause)
            elif tag == CLAUSE:
                self.i += 1
                if self.noun() is not None:
                    subject, modifiers = None, []
                nearest = subject
            elif tag == "CC":
                self.i += 1
                if self.noun() is not None and self.starts_clause(0):
                    subject, modifiers = None, []
                nearest = subject
            elif tag in ("IN", "TO"):
                phrases = self.prepositionals()
                if phrases:
                    nearest = phrases[-1].noun
                else:
                    self.i += 1
            else:
                self.i += 1
        if not found and subject is not None and modifiers and len(self.items) <= 5:
            found.append(Clause(subject, (), "none", places=tuple(modifiers)))
        return found

    def predicate(self, subject: NounPhrase, modifiers: list[Prepositional]) -> Clause | None:
        """The verb group here and its complements; ``None`` (but read on) where it is no statement one can ask for."""
        verb: list[str] = []
        form = ""
        if self.tag() == BE:
            self.i += 1
            while self.tag() == "RB":
                self.i += 1
            if self.tag() == "VBG" or self.tag() == "VBN":
                form = "doing" if self.tag() == "VBG" else "done"
                verb.append(self.word())
                self.i += 1
            elif self.tag() in ("IN", "TO"):
                form = "be"
            else:
                return None
            if verb == ["being"] and self.tag() == "VBN":
                verb.append(self.word())
                self.i += 1
        elif self.tag() in ("VBG", "VBN"):
            form = "doing" if self.tag() == "VBG" else "done"
            verb.append(self.word())
            self.i += 1
        else:
            lemma = verb_lemma(self.word())
            self.i += 1
            if lemma is None or self.tag() in ("VBN", "VBD"):
                self.i += lemma is not None
                return None  # "has fallen"
            form = "simple"
            verb.append(lemma)
        if self.tag() == INFINITIVE:
            verb.extend((self.word(), self.word(1)))
            self.i += 2
        particles: list[str] = []
        self.adverbs(particles)
        thing = self.joined() if self.noun() is not None else None
        self.adverbs(particles)
        places = self.prepositionals()
        if not places and thing is None and self.tag() in ("VBN", "VBD", "JJ", "VB", "CD"):
            self.i += 1
            return None  # "is getting soaked"
        while places and "background" in places[-1].noun.words:
            places = places[:-2] if len(places) > 1 and places[-2].preposition == "with" else places[:-1]
        if places and places[-1].preposition == "with" and self.tag() in ("VBN", "VBG", "JJ", "RB", "RP", "IN"):
            places.pop()  # "with its tail up" is another clause
        return Clause(subject, tuple(modifiers), form, tuple(verb), tuple(particles), thing, tuple(places))

    def adverbs(self, particles: list[str]) -> None:
        while self.tag() in ("RB", "RP"):
            if self.word() in _PARTICLES:
                particles.append(self.word())
            self.i += 1
