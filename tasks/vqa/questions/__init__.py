"""Questions made from captions, with one-word answers: the procedure of COCO-QA."""

from .cocoqa import generate
from .pruning import prune
from .question import KINDS, Question, boxes_of, read_questions, write_questions
from .sources import Caption, read_captions

__all__ = [
    "KINDS",
    "Caption",
    "Question",
    "boxes_of",
    "generate",
    "prune",
    "read_captions",
    "read_questions",
    "write_questions",
]
