"""How like a reference an answer is: four figures of one answer, each in [0, 1].

Written from their papers, so that a figure of today can be had again with any library of tomorrow.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_WORD = re.compile(r"\w+")


def exact_match(answer: str, reference: str) -> float:
    """1.0 where both are the same but for white space around them.

    >>> exact_match(' {"desk": "comp"}', '{"desk": "comp"}')
    1.0
    """
    return float(answer.strip() == reference.strip())


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of the words' precision and recall, without case, punctuation and English articles.

    Two empty answers agree. Source: Rajpurkar et al. (2016), SQuAD, arXiv:1606.05250, section 6.

    >>> round(token_f1("the black cat", "A black dog sat."), 2)
    0.4
    """
    ours, theirs = _squad(answer), _squad(reference)
    if not ours or not theirs:
        return float(ours == theirs)
    shared = (Counter(ours) & Counter(theirs)).total()
    return 2 * shared / (len(ours) + len(theirs))


def rouge_l(answer: str, reference: str) -> float:
    """F1 of the longest common subsequence of words, without case and punctuation.

    Source: Lin (2004), "ROUGE: a package for automatic evaluation of summaries", section 3.1, beta = 1.

    >>> rouge_l("police kill the gunman", "police killed the gunman")
    0.75
    """
    ours, theirs = _WORD.findall(answer.lower()), _WORD.findall(reference.lower())
    if not ours or not theirs:
        return float(ours == theirs)
    return 2 * common_subsequence(ours, theirs) / (len(ours) + len(theirs))


def chrf(answer: str, reference: str, *, beta: float = 2.0, order: int = 6) -> float:
    """F score of character n-grams up to `order`, white space left out; recall weighs `beta` times.

    Mean precision and mean recall over the orders that both texts have. Source: Popović (2015), "chrF:
    character n-gram F-score", equation 1; beta = 2 as in Popović (2016).

    >>> chrf("abc def", "abcdef"), chrf("abc", "xyz"), chrf("aa", "ab", beta=3)
    (1.0, 0.0, 0.25)
    """
    ours, theirs = "".join(answer.split()), "".join(reference.split())
    orders = min(order, len(ours), len(theirs))
    if not orders:
        return float(ours == theirs)
    precision = recall = 0.0
    for size in range(1, orders + 1):
        found, wanted = _grams(ours, size), _grams(theirs, size)
        shared = (found & wanted).total()
        precision += shared / found.total()
        recall += shared / wanted.total()
    precision, recall = precision / orders, recall / orders
    if not precision:
        return 0.0
    return (1 + beta**2) * precision * recall / (beta**2 * precision + recall)


def common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest sequence that both hold in this order, gaps allowed.

    >>> common_subsequence("abcde", "badce")
    3
    """
    row = [0] * (len(other) + 1)
    for left in one:
        diagonal = 0
        for place, right in enumerate(other, 1):
            above = row[place]
            row[place] = diagonal + 1 if left == right else max(above, row[place - 1])
            diagonal = above
    return row[-1]


def _squad(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def _grams(text: str, size: int) -> Counter[str]:
    return Counter(text[start : start + size] for start in range(len(text) - size + 1))
