"""The layer that a question is answered at (`xstilts.report.spec`)."""

from collections.abc import Mapping

import numpy as np

from tasks.errors import UserError
from xstilts.report.matrix import PLAIN
from xstilts.report.spec import ENGLISH, Spec


def choose_layer(cells: Mapping, spec: Spec, problems: list[str]) -> tuple[int, str, dict[int, float]]:
    """Return (layer, how it was chosen, {layer: mean score on select_languages}).

    The layer with the highest plain score on `select_languages`, mean over them, seeds, and the arms `none` and E; the
    lower of equals. One layer for all arms and families. Without select_languages it is `fixed_layer`. Layer 0 is
    excluded: it has no context yet, and with frozen embeddings it is the same in all arms.

    Raises:
        UserError: fewer than two layers were measured but one is to be chosen, or the fixed one was not.
    """
    scored = {layer for record in cells.values() for layer in record.by_layer}
    if spec.fixed_layer is not None and spec.fixed_layer not in scored:
        raise UserError(
            f"--question: fixed_layer {spec.fixed_layer} was not measured; there are "
            f"{', '.join(map(str, sorted(scored)))}."
        )
    if not spec.select_languages:
        if spec.fixed_layer is None:
            raise UserError("--question: give select_languages, to choose the layer on, or a fixed_layer.")
        return spec.fixed_layer, "given beforehand", {}
    arms = list(dict.fromkeys([PLAIN, *(roles[ENGLISH] for roles in spec.families.values())]))
    used = {(arm, seed): record for (arm, seed), record in cells.items() if arm in arms}
    absent = [arm for arm in arms if not any(arm == one for one, _ in used)]
    if absent:
        problems.append(f"The layer was chosen without {', '.join(absent)}, not run; it may change.")
    if not used:
        raise UserError(f"--question: the layer is chosen with the arms {', '.join(arms)}; none of them was run.")
    every = set().union(*(record.by_layer for record in used.values())) - {0}
    shared = every.intersection(*(record.by_layer for record in used.values()))
    if less := [f"{arm} seed {seed}" for (arm, seed), record in used.items() if every - set(record.by_layer)]:
        problems.append(
            f"The layer was chosen among {' '.join(map(str, sorted(shared)))} only: {', '.join(less)} not measured at "
            f"all of {' '.join(map(str, sorted(every)))}. Measure them there: run_retrieval.py --layer all."
        )
    if len(shared) < 2:
        raise UserError(
            "--question: to choose the layer, several above 0 must be measured: run_retrieval.py --layer all."
        )

    def score(layer: int) -> float:
        """Return the mean over arms of their means over seeds, so that an arm with more seeds has no more weight."""
        by_arm: dict[str, list[float]] = {}
        for (arm, _), record in used.items():
            by_language = record.by_layer[layer]
            chosen_on = [by_language[language][record.metric] for language in spec.select_languages]
            by_arm.setdefault(arm, []).append(float(np.mean(chosen_on)))
        return float(np.mean([np.mean(values) for values in by_arm.values()]))

    scores = {layer: score(layer) for layer in sorted(shared)}
    best = max(scores, key=lambda layer: (scores[layer], -layer))
    who = f"arms {', '.join(arm for arm in arms if arm not in absent)}"
    return best, f"chosen on {' '.join(spec.select_languages)}, not reported, with {who} only", scores
