"""Texts that a user gives: the space after the prompt, what no tokenizer knows, marks, and length."""

from __future__ import annotations

import copy
from typing import Any

import pytest

import mmexplain
from mmexplain.tasks.huggingface.phrases import Said
from tests.tasks.huggingface.planted import photo
from tests.tasks.huggingface.tiny_bytes import sentencepiece
from tests.tasks.huggingface.tiny_speakers import bert_tokenizer

SPEAKERS = ["blip2", "vit-gpt2", "git", "llava", "idefics3", "blip2-t5", "blip"]


def before(task: Any, prompt: str) -> Any:
    return task.before(mmexplain.io.load_image(photo(64, 64)), prompt).look


@pytest.mark.parametrize("family", SPEAKERS)
@pytest.mark.parametrize("text", ["a dog", " a dog"])
def test_a_space_stands_between_prompt_and_text(family: str, text: str, captioner: Any) -> None:
    task = captioner(family)
    look = before(task, "picture of")
    ids = task.speaker.tokens(text, look.prompt[0].tolist())
    told = task.speaker.tokenizer.decode([*look.prompt[0].tolist(), *ids], skip_special_tokens=True)
    assert told.endswith((" a dog", "\na dog")) or told == "a dog"


@pytest.mark.parametrize("family", ["blip2", "instructblip"])
def test_answers_follow_the_colon(family: str, answerer: Any) -> None:
    task = answerer(family)
    explanation = task.explain(photo(64, 64), "what color", answers=["red"], top=0)
    prompt = before(task, task.speaker.question.format("what color")).prompt[0].tolist()
    told = task.speaker.tokenizer.decode([*prompt, *explanation.targets[0].ids], skip_special_tokens=True)
    assert told.endswith("nswer: red")


def knowing(tokenizer: Any, task: Any) -> Any:
    """A task's speaker with another tokenizer."""
    speaker = copy.copy(task.speaker)
    speaker.tokenizer = tokenizer
    return speaker


def test_sentencepiece_puts_its_own_space(captioner: Any) -> None:
    tokenizer = sentencepiece()
    speaker = knowing(tokenizer, captioner("llava"))
    prompt = tokenizer("answer", add_special_tokens=False).input_ids
    for text in ("red", " red"):
        ids = speaker.tokens(text, prompt)
        assert tokenizer.decode([*prompt, *ids]).split() == ["answer", "red"]
    assert speaker.tokens("red", prompt) == tokenizer.convert_tokens_to_ids(["▁red"])


def test_scripts_without_spaces_go_on(captioner: Any) -> None:
    speaker = captioner("vit-gpt2").speaker
    decode = speaker.tokenizer.decode
    for prompt, text, told in [("一张", "狗", "一张狗"), ("answer", "狗", "answer 狗"), ("一张\n", "a", "一张\na")]:
        ids = speaker.tokens(prompt)
        assert decode([*ids, *speaker.tokens(text, ids)]) == told


@pytest.mark.parametrize("word", ["🐶", "狗"])
def test_what_the_tokenizer_does_not_know_is_named(word: str, answerer: Any, captioner: Any) -> None:
    image = photo(64, 64)
    line = f"tokenizer does not know '{word}'"
    with pytest.raises(mmexplain.TargetError, match=line):
        answerer("blip-vqa").explain(image, "what color", answers=["red", f"a {word}"])
    with pytest.raises(mmexplain.TargetError, match=line):
        captioner("blip").explain(image, f"a dog {word}")
    if word == "狗":
        with pytest.raises(mmexplain.TargetError, match=line):
            captioner("blip").explain(image, "a dog", versus={"dog": word})


@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "florence2", "blip2"])
def test_marks_are_no_tokens_of_a_text(family: str, captioner: Any) -> None:
    """They are read as the characters that they are, or refused in a line."""
    task = captioner(family)
    speaker, look = task.speaker, before(task, task.speaker.asked)
    prompt = look.prompt[0].tolist()
    names = {speaker.tokenizer.eos_token, *speaker.tokenizer.convert_ids_to_tokens(sorted(speaker.marks))}
    for name in names - {None}:
        try:
            ids = speaker.tokens(f"a {name} dog", prompt)
        except mmexplain.TargetError as error:
            assert name in str(error) and "\n" not in str(error)
        else:
            assert not {*speaker.marks, *speaker.tokenizer.all_special_ids} & {*ids}


@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "florence2", "idefics3"])
def test_no_model_says_the_token_of_a_photo(family: str, captioner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    task = captioner(family)
    look = before(task, task.speaker.asked)
    head = task.speaker.model.get_output_embeddings()
    mark = next(iter(task.speaker.marks & {task.speaker.model.config.image_token_id}))

    def loud(_: Any, __: Any, output: Any) -> Any:
        output[..., mark] = 1e3
        return output

    hook = head.register_forward_hook(loud)
    try:
        said = task.speaker.generate(look, 1, 4)
    finally:
        hook.remove()
    assert mark not in said


@pytest.mark.parametrize("family", ["blip", "florence2", "blip2", "vit-gpt2", "git"])
def test_a_text_that_is_too_long_is_told_in_a_line(family: str, captioner: Any) -> None:
    task, image = captioner(family), photo(64, 64)
    most = task.speaker.reads
    with pytest.raises(mmexplain.InputError, match=r"has \d+ tokens, and .* reads \d+ after its prompt"):
        task.explain(image, " ".join(["dog"] * most))
    room = task.speaker.room(before(task, task.speaker.asked))
    longest = task.explain(image, " ".join(["dog"] * (most // 8)), words="dog")
    assert longest.targets and room is not None
    assert len(task.says(before(task, task.speaker.asked), 1, 10 * most)) <= room


@pytest.mark.parametrize("family", ["blip", "blip2", "git", "vit-gpt2"])
def test_a_prompt_that_is_too_long_is_told_in_a_line(family: str, captioner: Any) -> None:
    with pytest.raises(mmexplain.InputError, match=r"the prompt has \d+ tokens"):
        captioner(family).explain(photo(64, 64), prompt=" ".join(["dog"] * 600))


def test_texts_of_the_full_length_are_scored(captioner: Any) -> None:
    """The bound is not one less or more than what the model reads."""
    task, image = captioner("blip"), photo(64, 64)
    room = task.speaker.room(before(task, ""))
    text = " ".join(["dog"] * room)
    assert len(task.speaker.tokens(text)) == room
    assert len(task.explain(image, text, words=[text], whole=True).targets) == 2
    with pytest.raises(mmexplain.InputError, match=f"reads {room} after"):
        task.explain(image, f"{text} dog", whole=True)


@pytest.mark.parametrize("other", ["", "...", None])
def test_nothing_to_hold_a_word_against(other: Any, captioner: Any) -> None:
    with pytest.raises(mmexplain.TargetError, match="holds no word that 'dog' could be held against"):
        captioner("blip").explain(photo(64, 64), "a dog", versus={"dog": other})


@pytest.mark.parametrize("answer", ["", " ", None, 3])
def test_an_answer_that_is_no_text(answer: Any, answerer: Any) -> None:
    with pytest.raises(mmexplain.TargetError, match="is empty"):
        answerer("blip-vqa").explain(photo(64, 64), "what color", answers=[answer])


def test_joined_characters_are_named_together(captioner: Any) -> None:
    tokenizer = sentencepiece("一只", "▁一只", "狗")
    task = captioner("llava")
    speaker = knowing(tokenizer, task)
    said = Said(speaker, tokenizer("一只狗", add_special_tokens=False).input_ids, before(task, "a"))
    assert [target.label for target in said.targets(["一只"])] == ["一只"]
    assert [(target.index, target.words) for target in said.targets(["一只狗"])] == [(0, 2)]
    with pytest.raises(mmexplain.TargetError, match="'一' is not in the caption '一只狗'; closest: '一只'"):
        said.targets(["一"])


@pytest.mark.parametrize("caption", ["dog cat", "red dog"])
def test_what_stands_instead_has_the_gap_of_what_it_replaces(caption: str, captioner: Any) -> None:
    """Also where the tokens before it are none that the tokenizer would make."""
    task = captioner("vit-gpt2")
    tokenizer = task.speaker.tokenizer
    first, last = caption.split()
    pieces = [token for letter in f" {first}" for token in tokenizer(letter, add_special_tokens=False).input_ids]
    assert pieces != tokenizer(f" {first}", add_special_tokens=False).input_ids
    ids = [*pieces, *tokenizer(f" {last}", add_special_tokens=False).input_ids]
    (target,) = Said(task.speaker, ids, before(task, "picture of")).targets([], versus={last: "ball"})
    assert target.versus is not None
    assert tokenizer.decode(target.versus.ids) == " ball"


def test_unknown_is_known_by_its_name(captioner: Any) -> None:
    speaker = knowing(bert_tokenizer("[", "]"), captioner("blip"))
    assert speaker.tokens("[UNK]", [])
