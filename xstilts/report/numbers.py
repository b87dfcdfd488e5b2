"""How the report writes numbers."""

from collections.abc import Iterable

import pandas as pd


def signed(points: float) -> str:
    """Return points with one decimal and a sign; 0.0 has none."""
    rounded = round(float(points), 1)
    return "0.0" if rounded == 0 else f"{rounded:+.1f}".replace("-", "−")


def shown(score: float) -> str:
    """Return a score with one decimal, "" for NaN."""
    return "" if pd.isna(score) else f"{score:.1f}"


def interval_of(interval: tuple[float, float] | None) -> str:
    """Return "+0.3 to +3.9", "" for None."""
    return f"{signed(interval[0])} to {signed(interval[1])}" if interval else ""


def p_text(p: float | None) -> str:
    """Return a p-value with three decimals, "" for None."""
    return "" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def points_of(margin: float) -> str:
    """Return "1 point" or "0.5 points"."""
    return f"{margin:g} {'point' if margin == 1 else 'points'}"


def count(n: int, thing: str) -> str:
    """Return "1 arm" or "3 arms"."""
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


def seeds_text(seeds: Iterable[int]) -> str:
    """Return "seed 1", "seeds 0 and 2" or "seeds 0, 1 and 2", sorted; "no seed" if there is none."""
    *those, last = [str(seed) for seed in sorted(seeds)] or ["no"]
    return f"seeds {', '.join(those)} and {last}" if those else "no seed" if last == "no" else f"seed {last}"
