"""Progress bars that name the run; in a log file they are lines, one every half minute."""

from __future__ import annotations

import io
import logging
import sys
from typing import Any

from tqdm import tqdm

from xstilts.cli import logs

logger = logging.getLogger("xstilts")
SECONDS = 30.0  # between two lines; shorter work has none


class Bar(tqdm):
    """A progress bar on a terminal. Elsewhere, log lines: done, total, and the time that is about left.

    Args:
        total: units of work.
        desc: what is done; the run's name is put before it.
        unit: what is counted, in the plural.
        initial: units done before.
        disable: show nothing.
        leave: keep the bar when it is done.
    """

    def __init__(
        self, total: int, desc: str, unit: str, initial: int = 0, disable: bool = False, leave: bool = True
    ) -> None:
        self.name, self.as_lines = logs.named(desc), not logs.is_terminal()
        options: dict[str, Any] = {"file": sys.stderr, "dynamic_ncols": True}
        if self.as_lines:  # tqdm itself writes nothing then
            options = {"file": io.StringIO(), "mininterval": SECONDS, "delay": SECONDS, "miniters": 1}
        super().__init__(
            total=total, desc=self.name, unit=unit, initial=initial, disable=disable, leave=leave, **options
        )

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Show the state: tqdm's way to make another kind of bar."""
        if not self.as_lines:
            super().display(msg, pos)
        elif msg is None:
            logger.info("%s", line(self.name, self.format_dict))


def line(name: str, state: dict[str, Any]) -> str:
    """Return the state of a bar as a sentence.

    Args:
        state: tqdm's `format_dict`: n, total, initial, elapsed (seconds), unit.
    """
    unit = state["unit"]
    if state["n"] >= state["total"]:
        return f"{name}: {state['n']:,} {unit} in {logs.duration(state['elapsed'])}"
    done = state["n"] - state["initial"]
    left = f", about {logs.duration(state['elapsed'] / done * (state['total'] - state['n']))} left" if done > 0 else ""
    return f"{name}: {state['n']:,} of {state['total']:,} {unit}{left}"
