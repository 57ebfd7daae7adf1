"""From rows to token numbers, and to which of them carry loss: those of the answers, no others.

An answer's place is found through the base model's own chat template: it is what the template adds to the
conversation so far when the answer comes. Where the template marks its answers itself (`{% generation %}`, as
transformers reads it) the two must agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jinja2.exceptions import TemplateError as JinjaError

from trainer.generation.errors import TemplateError
from trainer.generation.literal import Literal
from trainer.generation.rows import Chat, Completion, Message, Sample

ONE_ANSWER = "Give one row for each answer."


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """One row as the model sees it: token numbers, and for each whether it is learnt."""

    ids: tuple[int, ...]
    learnt: tuple[bool, ...]

    @property
    def answers(self) -> int:
        """How many tokens carry loss."""
        return sum(self.learnt)


class Template:
    """A tokenizer with its chat template; `tokenizer` is a fast transformers tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._literal = Literal(tokenizer.backend_tokenizer)
        self._marks = "generation %}" in (tokenizer.chat_template or "")

    def tokens(self, sample: Sample) -> Tokens:
        """The whole row, through the end of its last answer; TemplateError where it cannot be written."""
        if isinstance(sample, Completion):
            return self._completion(sample)
        text, spans = self._written(sample)
        ids, offsets = self._literal.encode(text)
        learnt = [False] * len(ids)
        for message, (start, end) in spans:
            inside = _inside(offsets, start, end)
            for place in inside if message.weight else ():
                learnt[place] = True
        if self._marks:
            self._check_marks(sample, learnt)
        last = max((place for place, one in enumerate(learnt) if one), default=len(ids) - 1)
        return Tokens(ids=tuple(ids[: last + 1]), learnt=tuple(learnt[: last + 1]))

    def prompt(self, sample: Sample) -> list[int]:
        """Token numbers that ask for the row's last answer, as a server would write them."""
        if isinstance(sample, Completion):
            return list(self._ids(sample.prompt, special=True))
        before = sample.messages[:-1] if sample.messages[-1].role == "assistant" else sample.messages
        return self._literal.encode(self._render(before, sample, ask=True))[0]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of an answer, without the tokens that end it."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def _completion(self, sample: Completion) -> Tokens:
        prompt = self._ids(sample.prompt, special=True)
        answer = [*self._ids(sample.answer), self.tokenizer.eos_token_id]
        return Tokens(ids=(*prompt, *answer), learnt=tuple([False] * len(prompt) + [True] * len(answer)))

    def _ids(self, text: str, *, special: bool = False) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=special)["input_ids"])

    def _written(self, sample: Chat) -> tuple[str, list[tuple[Message, tuple[int, int]]]]:
        """The conversation as text, and where in it every answer lies, its end mark included."""
        whole = self._render(sample.messages, sample, ask=False)
        if sample.tools and whole == self._render(sample.messages, replace(sample, tools=()), ask=False):
            raise TemplateError("the template knows no tools", "Leave `tools` out, or use another base model")
        spans = [
            (message, self._span(sample, number, whole))
            for number, message in enumerate(sample.messages)
            if message.role == "assistant"
        ]
        return whole, spans

    def _span(self, sample: Chat, number: int, whole: str) -> tuple[int, int]:
        before = self._render(sample.messages[:number], sample, ask=True)
        through = self._render(sample.messages[: number + 1], sample, ask=False)
        if not (through.startswith(before) and whole.startswith(through)):
            raise TemplateError("the template rewrites earlier turns when later ones come", ONE_ANSWER)
        end = through.rfind(self.tokenizer.eos_token or "\0", len(before))
        return len(before), len(through) if end < 0 else end + len(self.tokenizer.eos_token)

    def _render(self, messages: Sequence[Message], sample: Chat, *, ask: bool) -> str:
        turns = [self._turn(one) for one in messages]
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    turns, tools=list(sample.tools) or None, tokenize=False, add_generation_prompt=ask
                )
            )
        except (JinjaError, TypeError, ValueError) as error:
            told = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise TemplateError(f"the template refuses the conversation ({told})", "Correct it") from error

    def _turn(self, message: Message) -> dict[str, Any]:
        content = self._literal.mark(message.content)
        return {"role": message.role, "content": content, **message.extra}

    def _check_marks(self, sample: Chat, learnt: Sequence[bool]) -> None:
        turns = [self._turn(one) for one in sample.messages]
        marked = self.tokenizer.apply_chat_template(
            turns, tools=list(sample.tools) or None, return_dict=True, return_assistant_tokens_mask=True
        )["assistant_masks"]
        strange = [place for place, one in enumerate(learnt) if one and not marked[place]]
        if strange:
            problem = f"token {strange[0]} lies in an answer, but the template's own mark says it does not"
            raise TemplateError(problem, "Correct the template's {% generation %} marks")


def _inside(offsets: Sequence[tuple[int, int]], start: int, end: int) -> Iterator[int]:
    """Places of the tokens within [start, end); TemplateError where one lies across an end of it."""
    for place, (first, last) in enumerate(offsets):
        if first < start < last or first < end < last:
            problem = f"token {place} holds a part of an answer and a part of what is around it"
            raise TemplateError(problem, "Use a template that sets answers apart by a special token")
        if start <= first and last <= end and first < last:
            yield place
