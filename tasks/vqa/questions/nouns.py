"""What kind of thing a noun names, asked of WordNet."""

from __future__ import annotations

from functools import cache

from nltk.corpus import wordnet


def word_set(text: str) -> frozenset[str]:
    """The words of ``text``."""
    return frozenset(text.split())


# Lexicographer files of concrete things. (COCO-QA allows animal, artifact, food, object and plant: no people.)
CONCRETE = frozenset({"animal", "artifact", "body", "food", "object", "person", "plant", "substance"})

# Where the first sense in WordNet is not the one that captions mean.
_MEANT = {
    "people": "person",
    "men": "person",
    "snow": "substance",
    "couple": "group",
    "stage": "artifact",
    "swing": "artifact",
    "shoe": "artifact",
    "shoes": "artifact",
    "ride": "artifact",
    "racer": "person",
    "biker": "person",
    "skateboarder": "person",
    "snowboarder": "person",
    "lacrosse": "act",
    "yard": "location",
    "collie": "animal",
    "husky": "animal",
    "surf": "object",
    "one": "number",
    "male": "person",
    "female": "person",
    "adult": "person",
    "blond": "person",
    "blonde": "person",
    "baby": "person",
    "kid": "person",
    "batter": "person",
    "performer": "person",
    "skier": "person",
    "wave": "object",
    "waves": "object",
    "bull": "animal",
    "lab": "animal",
    "boxer": "animal",
    "pug": "animal",
    "poodle": "animal",
    "bubbles": "object",
    "bubble": "object",
    "jean": "artifact",
    "jeans": "artifact",
    "greyhounds": "animal",
    "sport": "act",
    "vault": "act",
    "match": "act",
    "concert": "act",
    "climber": "person",
    "table": "artifact",
    "board": "artifact",
    "tire": "artifact",
}

# Nouns of no content of their own, of the photo itself, or of the photographer.
VAGUE = word_set(
    "thing things something someone somebody anything everything object objects item items top side sides front "
    "back background foreground middle center centre edge bottom end corner area place way part parts picture photo "
    "photograph image shot camera set piece pieces kind type one ones other others body structure surface each lot "
    "bit left right distance view scene pair line row couple group groups bunch face faces head heads self position "
    "air closeup arm lap"
)

# Settings in which something can stand or happen.
PLACES = word_set(
    "airport alley aquarium arena bar barn basement bathroom bathtub bay beach bed bedroom boat bridge building bus "
    "cafe canal canoe canyon car cave church city classroom cliff club coast concert corridor country countryside "
    "court courtyard creek crib crowd crosswalk deck desert dirt dock doorway driveway fair farm field fields floor "
    "flowers forest fountain garage garden gate grass gravel ground gym gymnasium hall hallway harbor highway hill "
    "hills hillside hole hospital house ice intersection island jungle kitchen lab lake land lawn leaves library "
    "lobby lot mall market marsh meadow mirror mountain mountains mud museum ocean office park parade pasture path "
    "patio pavement pen pier plain plaza playground pond pool porch puddle racetrack ramp ravine restaurant river "
    "road rock rocks rodeo room sand sandbox school sea sidewalk sink sky slope snow square stadium staircase "
    "stairs stairway station steps store stream street studio subway surf swamp tent terrace theater tower town "
    "track trail train trees tub tunnel valley van village walkway warehouse water waterfall waters waves weeds "
    "wilderness window woods yard zoo backyard alleyway auditorium ballpark boardwalk brook brush bushes carnival "
    "cemetery dunes escalator fog greenhouse hay lagoon ledge lounge pit platform railroad rapids rink riverbank "
    "roadway seashore shop shore shoreline skatepark stall stage stands supermarket tree trench tracks undergrowth "
    "wasteland wheat"
)


@cache
def singular(noun: str) -> str:
    """The dictionary form of ``noun``; itself where WordNet has none."""
    return {"people": "people", "glasses": "glasses"}.get(noun) or wordnet.morphy(noun, wordnet.NOUN) or noun


@cache
def noun_kind(noun: str) -> str:
    """Lexicographer file of the noun's first sense (``"animal"``, ``"act"`` ...), ``""`` if WordNet has none."""
    lemma = singular(noun)
    if noun in _MEANT or lemma in _MEANT:
        return _MEANT.get(noun) or _MEANT[lemma]
    senses = wordnet.synsets(noun, wordnet.NOUN)
    return str(senses[0].lexname()).removeprefix("noun.") if senses else ""


@cache
def is_concrete(noun: str) -> bool:
    """Whether a question may be answered by ``noun``: a thing one can see, and not a vague one."""
    return not VAGUE & {noun, singular(noun)} and len(noun) > 1 and noun_kind(noun) in CONCRETE


@cache
def is_compound(modifier: str, head: str) -> bool:
    """Whether WordNet has "``modifier`` ``head``" as a noun."""
    return bool(wordnet.synsets(f"{modifier}_{singular(head)}", wordnet.NOUN))


@cache
def compound_is_kind_of(modifier: str, head: str) -> bool:
    """Whether "``modifier`` ``head``" is a kind of ``head``: "tennis ball" is, "ice cream" is not.

    A compound that WordNet does not know is taken for one.
    """
    compounds = wordnet.synsets(f"{modifier}_{singular(head)}", wordnet.NOUN)
    if not compounds:
        return True
    above = {name for sense in compounds[0].closure(lambda s: s.hypernyms()) for name in sense.lemma_names()}
    return singular(head) in above


@cache
def verb_lemma(word: str) -> str | None:
    """The infinitive of ``word``, ``None`` where it cannot be a verb."""
    lemma = wordnet.morphy(word, wordnet.VERB)
    return None if lemma is None else str(lemma)


@cache
def rather_verb(word: str) -> bool:
    """Whether ``word`` is a verb at least as often as a noun in the text that WordNet's counts come from."""
    verb, noun = _uses(word, wordnet.VERB), _uses(word, wordnet.NOUN)
    return verb > 0 and verb >= noun


def _uses(word: str, part: str) -> int:
    lemma = wordnet.morphy(word, part)
    if lemma is None:
        return 0
    return sum(
        int(name.count()) for sense in wordnet.synsets(lemma, part) for name in sense.lemmas() if name.name() == lemma
    )
