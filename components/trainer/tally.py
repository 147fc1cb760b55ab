"""What the metrics of a Keras 3 model add up on a replica, apart from their variables where replicas share these.

Keras 3 reads the variable of a metric and writes the sum back: whatever another worker has added between is lost, and what
several replicas write together is added up with all that was there before. So each call begins from zero and answers what it
has added; whoever called adds it up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from schemas.errors import SatisficeError

__all__ = ["Step", "Tally", "figures_with"]


_LIBRARIES = ("keras.", "tf_keras.")
"""Whose steps answer their metrics."""


class Tally:
    """Adds up what replicas answer."""

    def __init__(self, keras: ModuleType, model: Any) -> None:
        """Take Keras 3, and a model whose metrics are built.

        Raises:
            SatisficeError: a metric is not a sum over rows.
        """
        self._keras, self._model = keras, model
        self._variables = [variable for metric in model.metrics for variable in metric.variables]
        for variable in self._variables:
            if variable.aggregation != "sum":
                raise SatisficeError(
                    f"metric variable {variable.path}",
                    "cannot be added up over replicas that share it",
                    expected="aggregation: sum",
                    got=variable.aggregation,
                    remedy="Change the metric, or take training.strategy: mirrored or multi_worker_mirrored.",
                )
        self._sums = [np.zeros(variable.shape, variable.dtype) for variable in self._variables]

    def zeros(self) -> list[Any]:
        """Where a call begins: a tensor for each variable."""
        return [tf.zeros(variable.shape, variable.dtype) for variable in self._variables]

    @tf.autograph.experimental.do_not_convert
    def run(self, step: Callable[[Any], Any], data: Any) -> list[Any]:
        """Runs a step of the model on a batch; what the metrics have added. All else is assigned where it lies."""
        keras, iterations = self._keras, self._model.optimizer.iterations
        apart = {id(variable) for variable in self._variables}

        class Apart(keras.StatelessScope):  # type: ignore[name-defined]
            def add_update(self, update: tuple[Any, Any]) -> None:
                variable, value = update
                if id(variable) in apart:
                    super().add_update(update)
                elif variable is iterations:  # read and written back, it would lose those of others as well
                    variable.value.assign_add(1)
                else:
                    variable._direct_assign(value)  # noqa: SLF001 - what `assign` does without a scope

            def get_current_value(self, variable: Any) -> Any:
                held = super().get_current_value(variable)
                return variable._value if held is None else held  # noqa: SLF001 - regularizers ask the scope alone

        begun = list(zip(self._variables, self.zeros(), strict=True))
        with Apart(begun, collect_losses=True, initialize_variables=False) as scope:
            step(data)
        return [scope.get_current_value(variable) for variable in self._variables]

    def add(self, answered: Sequence[npt.NDArray[Any]]) -> None:
        """Takes what a call has answered."""
        for total, one in zip(self._sums, answered, strict=True):
            np.add(total, one, out=total)

    def figures(self) -> dict[str, float]:
        """The metrics of what was added, by name; their variables stay as they are, wherever they lie."""
        return figures_with(self._keras, self._model, zip(self._variables, self._sums, strict=True))

    def reset(self) -> None:
        """Forgets what was added."""
        for total in self._sums:
            total[...] = 0

    def settle(self) -> None:
        """Gives the metrics what was added since the last time."""
        for variable, total in zip(self._variables, self._sums, strict=True):
            variable.assign(variable.numpy() + total)
        self.reset()


def figures_with(keras: ModuleType, model: Any, values: Iterable[tuple[Any, npt.NDArray[Any]]]) -> dict[str, float]:
    """The metrics of a Keras 3 model by name, as they would be if their variables had these values."""
    with keras.StatelessScope(state_mapping=list(values)):
        return {name: float(value) for name, value in model.get_metrics_result().items()}


class Step:
    """A step of a model, as `strategy.run` takes it."""

    def __init__(self, model: Any, step: Callable[[Any], Any], tally: Tally | None) -> None:
        """Take a model of Keras, its `train_step` or its `test_step`, and where its metrics are added up.

        Without a tally they are added to where they lie.
        """
        self._model, self._step, self._tally = model, step, tally
        self._unknown: list[str] = []

    def run(self, data: Any) -> list[Any]:
        """Makes the step on a batch; it answers what the tally keeps apart, nothing without one."""
        if self._tally is not None:
            added: list[Any] = self._tally.run(lambda batch: self._note(self._step(batch)), data)
            return added
        self._note(self._step(data))
        return []

    def check(self) -> None:
        """Makes sure, once the step was traced, that it has answered figures of metrics alone.

        Of another one there would be one for each replica and batch, and nobody to say how they come together.

        Raises:
            SatisficeError: otherwise.
        """
        if self._unknown:
            raise SatisficeError(
                f"{type(self._model).__name__}.{self._step.__name__}",
                f"answers {', '.join(self._unknown)}, which is of no metric of the model",
                expected="figures of metrics, which add up over batches and replicas",
                remedy="Keep it in a keras.metrics.Mean that is an attribute of the model, or take training.strategy: "
                "one_device.",
            )

    @tf.autograph.experimental.do_not_convert
    def _note(self, answered: Any) -> None:
        """Looks at the names of figures; what is raised here, TensorFlow would wrap."""
        model = self._model
        if not self._step.__module__.startswith(_LIBRARIES) and isinstance(answered, Mapping):
            known = {*model.get_metrics_result(), *(metric.name for metric in model.metrics)}
            self._unknown = sorted(set(answered) - known)
