"""Personal data by the patterns and checksums of presidio, an extra: `[data] presidio = true`.

No language model is loaded, so names and places are not found. Its recognisers of mail and web addresses are
left out: they fetch a list of domains from the network, and trainer/personal.py has patterns of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from trainer.errors import SpecError

SURE = 0.4  # of 1; what presidio gives a telephone number that parses, below it are mere numbers
LEFT_OUT = {"DateRecognizer", "EmailRecognizer", "SpacyRecognizer", "UrlRecognizer"}
Kinds = Callable[[str], set[str]]  # of personal data in a text


def nothing(_: str) -> set[str]:
    """Look for nothing."""
    return set()


def by_presidio() -> Kinds:
    """What looks for the kinds that presidio knows in English; SpecError where it is not installed."""
    try:
        from presidio_analyzer import RecognizerRegistry  # noqa: PLC0415  an extra, seconds to import
    except ImportError as error:
        mend = "Install trueup[personal], or leave it out."
        raise SpecError("the spec", "data.presidio", "presidio is not installed", mend) from error
    logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)
    registry = RecognizerRegistry()
    registry.load_predefined_recognizers(languages=["en"])
    used = [one for one in registry.recognizers if type(one).__name__ not in LEFT_OUT]

    def kinds(text: str) -> set[str]:
        found = [one for each in used for one in each.analyze(text, each.supported_entities, None) or []]
        return {one.entity_type.lower() for one in found if one.score >= SURE}

    return kinds
