"""Which tokens carry loss: all of the answers', not one of the prompt's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.trainer.generation.conftest import MARKED, PLAIN, tokenizer
from trainer.generation.errors import TemplateError
from trainer.generation.rows import Chat, Completion, Message, Sample, chat
from trainer.generation.template import Template

TURNS = chat(
    ("system", "Be brief."),
    ("user", "Größe?"),
    ("assistant", "1 m"),
    ("user", "No: 1 m?"),
    ("assistant", "2 m"),
)


def template(text: str = PLAIN) -> Template:
    return Template(tokenizer(text))


def learnt(found: Template, sample: Sample) -> str:
    tokens = found.tokens(sample)
    ids = [number for number, one in zip(tokens.ids, tokens.learnt, strict=True) if one]
    return str(found.tokenizer.decode(ids))


@pytest.mark.parametrize("text", [PLAIN, MARKED], ids=["plain", "marked"])
def test_only_the_answers_and_their_end_carry_loss(text: str) -> None:
    assert learnt(template(text), TURNS) == "1 m<|im_end|>2 m<|im_end|>"


@pytest.mark.parametrize("sample", [TURNS, chat(("user", "2 m"), ("assistant", "2 m"))])
def test_not_one_token_of_the_prompt_carries_loss(sample: Chat) -> None:
    """The prompt that a server would ask with is a prefix of the row, and the prefix carries no loss."""
    found = template()
    single = replace(
        sample, messages=(*(replace(m, weight=0) for m in sample.messages[:-1]), sample.messages[-1])
    )
    tokens, prompt = found.tokens(single), found.prompt(single)
    assert list(tokens.ids[: len(prompt)]) == prompt
    assert not any(tokens.learnt[: len(prompt)])
    assert all(tokens.learnt[len(prompt) :])


def test_a_row_ends_where_its_last_learnt_answer_ends() -> None:
    found = template()
    assert found.tokenizer.decode(found.tokens(TURNS).ids).endswith("2 m<|im_end|>")


def test_what_the_template_marks_itself_agrees() -> None:
    found = template(MARKED)
    turns = [{"role": one.role, "content": one.content} for one in TURNS.messages]
    marks = found.tokenizer.apply_chat_template(turns, return_dict=True, return_assistant_tokens_mask=True)
    ours = found.tokens(TURNS).learnt
    assert [bool(mark) for mark in marks["assistant_masks"]][: len(ours)] == list(ours)


def test_a_template_whose_marks_say_otherwise_is_refused() -> None:
    moved = MARKED.replace("{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}", "")
    broken = moved.replace("{{ '\n' }}", "{% generation %}{{ '\n' }}{% endgeneration %}")
    text = broken.replace(
        "{% if message['role'] == 'assistant' %}",
        "{% if message['role'] == 'assistant' %}{{ message['content'] + '<|im_end|>' }}",
    )
    with pytest.raises(TemplateError, match="own mark"):
        template(text).tokens(TURNS)


def test_an_answer_of_weight_0_is_context_only() -> None:
    messages = [*TURNS.messages[:2], Message("assistant", "1 m", 0), *TURNS.messages[3:]]
    assert learnt(template(), Chat(messages=tuple(messages))) == "2 m<|im_end|>"


def test_a_completion_is_learnt_with_the_end_token_and_without_the_template() -> None:
    found = template()
    sample = Completion(prompt="2 + 2 =", answer=" 4")
    assert learnt(found, sample) == " 4<|im_end|>"
    assert found.decode(found.tokens(sample).ids) == "2 + 2 = 4"


def test_tools_are_refused_by_a_template_that_does_not_read_them() -> None:
    with pytest.raises(TemplateError, match="knows no tools"):
        template().tokens(replace(TURNS, tools=({"type": "function"},)))


def test_a_template_that_refuses_says_why() -> None:
    strict = "{{ raise_exception('Only user and assistant roles are supported') }}"
    with pytest.raises(TemplateError, match="Only user and assistant"):
        template(strict).tokens(TURNS)


def test_a_template_that_rewrites_earlier_turns_is_refused() -> None:
    forgetful = PLAIN.replace("message['content']", "(message['content'] if loop.last else '…')")
    with pytest.raises(TemplateError, match="one row for each answer"):
        template(forgetful).tokens(TURNS)


def test_a_token_across_the_edge_of_an_answer_is_refused() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    found: Any = tokenizer(PLAIN)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {sign: number for number, sign in enumerate([*letters, "Ċ2"])}  # line feed and 2 are one
    fused = Tokenizer(models.BPE(vocab=vocabulary, merges=[("Ċ", "2")]))
    fused.pre_tokenizer = found.backend_tokenizer.pre_tokenizer
    fused.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    found = type(found)(tokenizer_object=fused, eos_token="<|im_end|>", chat_template=PLAIN)
    with pytest.raises(TemplateError, match="part of an answer"):
        Template(found).tokens(TURNS)


def test_special_strings_in_a_row_are_learnt_as_text() -> None:
    said = chat(("user", "how ends a turn<|im_end|>?"), ("assistant", "with <|im_end|>, no more"))
    found = template()
    assert learnt(found, said) == "with <|im_end|>, no more<|im_end|>"
    end = found.tokenizer.eos_token_id
    tokens = found.tokens(said)
    assert tokens.ids.count(end) == 3  # the system's, the user's, the answer's
    assert list(tokens.ids[: len(found.prompt(said))]) == found.prompt(said)
