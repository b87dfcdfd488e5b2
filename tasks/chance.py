"""When a score is clearly above chance."""

import math


def clears(score: float, chance: float, n: int) -> bool:
    """Whether a score is more than two standard errors (of a proportion over n examples) above chance, all 0-100."""
    p = min(max(chance / 100, 0.0), 1.0)
    return score > chance + 200 * math.sqrt(p * (1 - p) / n)
