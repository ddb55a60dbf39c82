"""Telling the words a picture can be about from the words that only hold a sentence together."""

from __future__ import annotations

_DETERMINERS = """a an the this that these those each every either neither no some any all both half such another
    other others much many more most few fewer fewest little less least several enough own same what whatever which
    whichever"""
_PRONOUNS = """i me my mine myself you your yours yourself yourselves he him his himself she her hers herself it its
    itself we us our ours ourselves they them their theirs themselves one ones oneself who whom whose whoever someone
    somebody something anyone anybody anything everyone everybody everything nobody nothing none each-other"""
_PREPOSITIONS = """about above across after against along alongside amid among amongst around as at atop away back
    before behind below beneath beside besides between beyond by despite down during except for from in inside into
    like near next of off on onto opposite out outside over past per since through throughout to together toward
    towards under underneath until unto up upon upside via while with within without"""
_AUXILIARIES = """am is are was were be been being do does did doing done have has had having can could may might must
    shall should will would ought isn't aren't wasn't weren't don't doesn't didn't hasn't haven't hadn't can't couldn't
    won't wouldn't shouldn't get gets getting got appear appears seem seems seeming let lets"""
_CONJUNCTIONS = """and but or nor so yet for if then than because although though unless whereas whether when whenever
    where wherever why how however"""
_ADVERBS = """not n't very too also just only even still again already almost quite rather here there now ever never
    once twice perhaps maybe else apart ahead aside forth"""
_NUMBERS = """zero one two three four five six seven eight nine ten eleven twelve dozen hundred first second third last
    lot lots couple pair bunch various multiple"""
_LEFTOVERS = "s t d ll re ve m o"

FUNCTION_WORDS: frozenset[str] = frozenset(
    " ".join(
        (_DETERMINERS, _PRONOUNS, _PREPOSITIONS, _AUXILIARIES, _CONJUNCTIONS, _ADVERBS, _NUMBERS, _LEFTOVERS)
    ).split()
)
"""English's closed classes (and quantities): words that name nothing one could point at in a photo."""


def is_content_word(word: str) -> bool:
    """Whether ``word`` names a thing, a quality or a doing: no function word, number or special token."""
    folded = word.lower()
    return any(c.isalpha() for c in folded) and not folded.startswith("<") and folded not in FUNCTION_WORDS
