"""A client that asks a language model, one conversation a mail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from monitor.demo.client import Answered, Client
from monitor.demo.mail import Mail
from trainer.generation.json_answers import Check, value_of
from trainer.generation.metrics import exact_match

ANSWER_TOKENS = 16


class ChatClient(Client):
    """`reads`: by instruction, whether the ticket system can use an answer's JSON."""

    per_request = 1

    def __init__(self, port: int, model: str, *, reads: Mapping[str, Check]) -> None:
        super().__init__(port, model, connections=8)
        self._reads = reads

    def _ask(self, part: Sequence[Mail]) -> list[Answered]:
        (mail,) = part
        asked = {"messages": messages(mail), "temperature": 0, "max_tokens": ANSWER_TOKENS}
        reply = self.post("/v1/chat/completions", {"model": self.model} | asked)
        if reply is None:
            return []
        said = reply["choices"][0]["message"]["content"]
        is_json, value = value_of(said)
        return [
            Answered(
                reply["id"],
                reply["system_fingerprint"],
                bool(exact_match(said, mail.truth)),
                mail.truth,
                valid=is_json and self._reads[mail.instruction](value),
            )
        ]


def messages(mail: Mail) -> list[dict[str, str]]:
    """A mail as it is asked."""
    return [{"role": "system", "content": mail.instruction}, {"role": "user", "content": mail.text}]
