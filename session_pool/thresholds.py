"""Thresholds that fit: a policy's, scaled to lives that are short; a caller's wish, made coarse.

Pure like `rules`: no I/O, no clock, no randomness.
"""

from __future__ import annotations

import math

from session_pool.model import Terms


def scaled(terms: Terms, lifetime_s: float) -> Terms:
    """Thresholds that fit a session that lives this long (B16).

    Where its whole life is shorter than `refresh_ahead_s`, the three thresholds shrink by one
    factor, so that `refresh_ahead_s` becomes half of the life.
    """
    if lifetime_s > terms.refresh_ahead_s or lifetime_s <= 0:
        return terms
    factor = lifetime_s / 2 / terms.refresh_ahead_s
    return terms._replace(
        refresh_ahead_s=terms.refresh_ahead_s * factor,
        min_remaining_s=terms.min_remaining_s * factor,
        doubt_s=terms.doubt_s * factor,
    )


def wish(asked_s: float | None, terms: Terms) -> float:
    """The least remaining life to ask for: the policy's, or the larger one, on a coarse scale.

    Few values make few lines. Larger wishes are rounded up by an eighth of an octave at most.
    """
    if asked_s is None or asked_s <= terms.min_remaining_s:
        return terms.min_remaining_s
    step = 2.0 ** (math.floor(math.log2(max(asked_s, 1.0))) - 3)
    return math.ceil(asked_s / step) * step
