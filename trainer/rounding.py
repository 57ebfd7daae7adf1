"""Weights to integers, each row's rounding made good by those after it (GPTQ, Frantar et al. 2022).

Rounding to the nearest is best for each weight and not for the product: errors add up along what activations
have in common. https://arxiv.org/abs/2210.17323
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
BLOCK = 128
DAMPING = 0.01  # of the mean of the diagonal


def rounded(weight: Array, columns: Array, gram: Array) -> Array:
    """int8 [inputs, outputs] for float weights and their scale per column.

    `gram` [inputs, inputs] is the product of the calibration's states with themselves.

    >>> alike = np.ones((2, 2))  # two inputs that are always the same
    >>> rounded(np.array([[0.5], [0.75]]), np.array([1.0]), alike).ravel().tolist()
    [0, 1]
    >>> rounded(np.array([[0.6], [0.75]]), np.array([1.0]), alike).ravel().tolist()  # 1.35 in all
    [1, 0]
    """
    left = np.asarray(weight / columns, dtype=np.float32).copy()
    upper = _factor(gram)
    found = np.empty(left.shape, dtype=np.int8)
    for start in range(0, len(left), BLOCK):
        stop = min(start + BLOCK, len(left))
        errors = np.empty((stop - start, left.shape[1]), dtype=np.float32)
        for row in range(start, stop):
            found[row] = np.clip(np.round(left[row]), -127, 127)
            errors[row - start] = (left[row] - found[row]) / upper[row, row]
            left[row + 1 : stop] -= np.outer(upper[row, row + 1 : stop], errors[row - start])
        left[stop:] -= upper[start:stop, stop:].T @ errors
    return found


def _factor(gram: Array) -> Array:
    """Upper Cholesky factor of the inverse; inputs that were never seen are given some size."""
    inputs = len(gram)
    damped = gram.astype(np.float64) + np.eye(inputs) * (DAMPING * max(float(np.trace(gram)) / inputs, 1e-6))
    factor: Array = np.linalg.cholesky(np.linalg.inv(damped)).T.astype(np.float32)
    return factor
