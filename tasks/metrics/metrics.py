"""Any score of this folder as a module of the library `evaluate`, loaded by path from anywhere:

    evaluate.load("tasks/metrics", "qa").compute(predictions=["the Panthers"], references=[["Panthers"]])

The project itself calls the functions (`tasks.metrics.compute`): `import evaluate` takes seconds, and such a module
adds milliseconds to every score.
"""

import inspect
import sys
from collections.abc import Callable
from typing import Any, get_type_hints

import datasets
import evaluate

# One line a file: `evaluate` copies the files it finds in such lines, and does not look into them for more.
from .accuracy import accuracy
from .accuracy_f1 import accuracy_f1
from .errors import UserError
from .inputs import checked
from .mean_average_precision import mean_average_precision
from .mining import mining
from .qa import qa
from .retrieval_accuracy import retrieval_accuracy
from .tagging import tagging

_TEXT = datasets.Value("string")
# float64: as int64 the library would cut 1.7 to 1
_FEATURES = {list[int]: datasets.Value("float64"), list[str]: _TEXT, list[list[str]]: datasets.Sequence(_TEXT)}
FUNCTIONS = {
    function.__name__: function
    for function in (accuracy, accuracy_f1, mean_average_precision, mining, qa, retrieval_accuracy, tagging)
}


class Metric(evaluate.Metric):
    """The function that the second argument of `evaluate.load` names; `inputs_description` is its docstring."""

    def _info(self) -> evaluate.MetricInfo:
        function = self._function()
        description, _, sources = (inspect.getdoc(sys.modules[function.__module__]) or "").partition("\nSources:\n")
        types = get_type_hints(function)
        return evaluate.MetricInfo(
            description=description,
            citation=inspect.cleandoc(sources),
            inputs_description=inspect.getdoc(function),
            features=datasets.Features({name: _FEATURES[types[name]] for name in ("predictions", "references")}),
        )

    def _function(self) -> Callable[..., dict[str, float]]:
        if self.config_name not in FUNCTIONS:
            raise UserError(
                f"Metric {self.config_name!r} is unknown. Type evaluate.load(path, name) with one of: "
                f"{', '.join(FUNCTIONS)}."
            )
        return FUNCTIONS[self.config_name]

    def _compute(self, predictions: list, references: list, **settings: Any) -> dict[str, float]:
        function = self._function()
        given = (list(map(_whole, values)) for values in (predictions, references))
        return function(**checked(function, *given), **settings)


def _whole(value: Any) -> Any:
    """Return 1 for 1.0, and any other value as it is, for `checked` to refuse 1.7."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
