"""Names of detectors that read one slice: "similarity[language=de]"."""

from __future__ import annotations

from collections.abc import Iterable

from exporter.slices import key_of


def in_slice(detector: str, slice_: str) -> str:
    """Return the name of a detector that reads one slice; `split_name` gives both back.

    >>> in_slice("similarity", "language=de"), split_name("similarity[language=de]"), split_name("accuracy")
    ('similarity[language=de]', ('similarity', 'language=de'), ('accuracy', ''))
    """
    return f"{detector}[{slice_}]"


def split_name(detector: str) -> tuple[str, str]:
    """Return the detector of the whole and the slice, "" for the whole."""
    whole, _, rest = detector.partition("[")
    return whole, rest.removesuffix("]")


def slice_keys(detectors: Iterable[str]) -> set[str]:
    """Return the metadata keys of the slices that these detectors read.

    >>> slice_keys(["similarity", "similarity[language=de]", "confidence[language=es]"])
    {'language'}
    """
    return {key_of(slice_) for _, slice_ in map(split_name, detectors) if slice_}
