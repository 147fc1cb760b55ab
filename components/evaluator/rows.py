"""The rows of an evaluation by columns: labels and predictions of each model, and which rows are in which slice."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow_model_analysis.slicer import slicer_lib as slicer

from components import progress
from components.evaluator.fit import Unsupported

__all__ = ["Indices", "RawValues", "Rows", "Served", "SliceKey", "Slices", "Slicing", "read_rows"]

SliceKey = tuple[tuple[str, Any], ...]
Array = npt.NDArray[Any]
Indices = npt.NDArray[np.signedinteger[Any]]
"""Of rows."""

_BATCH_ROWS = 4096
_READ_BUFFER_BYTES = 8 << 20


@dataclass(frozen=True)
class Rows:
    """What the metrics are computed of.

    Attributes:
        count: number of rows.
        labels: by model, shape [rows, ...].
        predictions: by model, shape [rows, outputs].
        slices: the indices of the rows in each slice, ascending; the key `()` is the whole.
        features: transformed features that were asked to be kept, by model and name, shape [rows, ...].
    """

    count: int
    labels: Mapping[str, Array]
    predictions: Mapping[str, Array]
    slices: Mapping[SliceKey, Indices]
    features: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)

    def not_numbers(self) -> dict[str, npt.NDArray[np.bool_]]:
        """By model, which rows it answers with NaN or infinity; the models that never do are not in it."""
        found: dict[str, npt.NDArray[np.bool_]] = {}
        for name, answers in self.predictions.items():
            bad = np.zeros(self.count, np.bool_)
            if answers.dtype.kind == "f":
                bad[:] = ~np.isfinite(answers).reshape(self.count, -1).all(axis=1)
            if bad.any():
                found[name] = bad
        return found


class Served:
    """A SavedModel as a server would load it: graph and session, which takes a quarter of the time of Keras' way."""

    def __init__(self, path: str, spec: Any, features: Iterable[str]) -> None:
        """Load a model.

        Args:
            path: the SavedModel's folder.
            spec: its `tfma.ModelSpec`.
            features: names of the transformed features to give, where the model has them.

        Raises:
            Unsupported: a signature takes something other than serialized tf.Examples, or gives several outputs.
        """
        graph = tf.Graph()
        with graph.as_default():
            self._session = tf.compat.v1.Session(graph=graph)
            signatures = tf.compat.v1.saved_model.load(self._session, [tf.saved_model.SERVING], path).signature_def
        self._inputs: list[str] = []
        outputs = self._outputs(signatures, spec.signature_name)
        if len(outputs) != 1:
            raise Unsupported(f"the signature {spec.signature_name!r} has several outputs")
        transformed: dict[str, str] = {}
        for name in spec.preprocessing_function_names:
            transformed.update(self._outputs(signatures, name, set(features)))
        self._prediction = next(iter(outputs.values()))
        self._transformed = transformed

    @property
    def features(self) -> set[str]:
        """Names of the transformed features that `run` gives."""
        return set(self._transformed)

    def close(self) -> None:
        """Lets the graph go."""
        self._session.close()

    def run(self, examples: Array) -> tuple[Array, dict[str, Array]]:
        """Predictions [rows, outputs] and transformed features [rows, ...] of serialized tf.Examples."""
        fetched = self._session.run([self._prediction, self._transformed], dict.fromkeys(self._inputs, examples))
        prediction, transformed = fetched
        return _two_dimensional(prediction), {name: _two_dimensional(array) for name, array in transformed.items()}

    def _outputs(self, signatures: Any, name: str, wanted: set[str] | None = None) -> dict[str, str]:
        if name not in signatures:
            raise Unsupported(f"the model has no signature {name!r}")
        (*_, given) = inputs = list(signatures[name].inputs.values())
        rank = len(given.tensor_shape.dim) if not given.tensor_shape.unknown_rank else None
        if len(inputs) != 1 or given.dtype != tf.string.as_datatype_enum or rank != 1:
            raise Unsupported(f"the signature {name!r} takes something other than tf.Examples")
        self._inputs.append(given.name)
        outputs = {key: info for key, info in signatures[name].outputs.items() if wanted is None or key in wanted}
        if any(info.WhichOneof("encoding") != "name" for info in outputs.values()):
            raise Unsupported(f"the signature {name!r} gives a sparse tensor")
        return {key: info.name for key, info in outputs.items()}


class Slices(Mapping[SliceKey, Indices]):
    """The indices of the rows of each slice, ascending; worked out where they are asked for, so that each row is held once."""

    def __init__(self, members: Mapping[SliceKey, Sequence[int]], codes: npt.NDArray[np.int32]) -> None:
        """Take the codes of which each slice consists, in the order of the slices, and the code of each row."""
        self._members = members
        narrow = len(codes) <= np.iinfo(np.int32).max
        self._order: Indices = np.argsort(codes, kind="stable").astype(np.int32 if narrow else np.int64, copy=False)
        self._ends = np.cumsum(np.bincount(codes))

    def __getitem__(self, key: SliceKey) -> Indices:
        ends = [(int(self._ends[code - 1]) if code else 0, int(self._ends[code])) for code in self._members[key]]
        return np.sort(np.concatenate([self._order[start:stop] for start, stop in ends]))

    def __iter__(self) -> Iterator[SliceKey]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)


@dataclass(frozen=True)
class RawValues:
    """The values of a raw feature, any number of them in each row.

    Attributes:
        values: of all rows, in order.
        ends: where those of each row end.
    """

    values: Array
    ends: Indices

    def of(self, row: int) -> Array:
        """The values of one row."""
        return self.values[self.ends[row - 1] if row else 0 : self.ends[row]]

    def hashable(self) -> list[tuple[Any, ...]]:
        """The values of each row."""
        values = self.values.tolist()
        return [tuple(values[start:stop]) for start, stop in itertools.pairwise([0, *self.ends.tolist()])]


class Slicing:
    """Which slices a row is in, as TFMA says: asked once for each combination of values that occurs."""

    def __init__(self, specs: Iterable[Any]) -> None:
        """Take the `tfma.SlicingSpec`s."""
        specs = list(specs) or [None]
        self._specs = [
            slicer.SingleSliceSpec(spec=spec) if spec is not None else slicer.SingleSliceSpec() for spec in specs
        ]
        given = [spec for spec in specs if spec is not None]
        self.features = sorted({key for spec in given for key in [*spec.feature_keys, *spec.feature_values]})
        self.count = 0
        self._codes: dict[tuple[Any, ...], int] = {}
        self._members: dict[SliceKey, list[int]] = {}
        self._rows: list[npt.NDArray[np.int32]] = []

    def add(self, transformed: Sequence[Mapping[str, Array]], raw: Mapping[str, RawValues], rows: int) -> None:
        """Take a batch.

        Args:
            transformed: the features of each model, [rows, ...].
            raw: the raw features.
            rows: their number.
        """
        columns = [_hashable(array) for features in transformed for array in features.values()]
        columns += [values.hashable() for values in raw.values()]
        codes = np.zeros(rows, np.int32)
        for row, key in enumerate(zip(*columns, strict=True) if columns else [()] * rows):
            code = self._codes.get(key)
            if code is None:
                code = self._codes[key] = len(self._codes)
                for slice_key in self._slices_of(transformed, raw, row):
                    self._members.setdefault(slice_key, []).append(code)
            codes[row] = code
        self._rows.append(codes)
        self.count += rows

    def rows(self) -> Slices:
        """The rows of each slice, the whole first."""
        codes = np.concatenate(self._rows) if self._rows else np.zeros(0, np.int32)
        keys = sorted(self._members, key=lambda key: (len(key), str(key)))
        return Slices({key: self._members[key] for key in keys}, codes)

    def _slices_of(
        self, transformed: Sequence[Mapping[str, Array]], raw: Mapping[str, RawValues], row: int
    ) -> set[SliceKey]:
        features = [{name: array[row] for name, array in one.items()} for one in transformed]
        others = {name: values.of(row) for name, values in raw.items()}
        return set(slicer.get_slices_for_features_dicts(features, others, self._specs))


def read_rows(
    files: Sequence[str],
    models: Mapping[str, tuple[str, Any]],
    slicing_specs: Iterable[Any],
    raw_types: Mapping[str, Any],
    keep: Iterable[str] = (),
) -> Rows:
    """Predicts and slices all rows.

    Args:
        files: TFRecord files of tf.Examples.
        models: path and `tfma.ModelSpec` of each model, by the name that TFMA knows it by.
        slicing_specs: the `tfma.SlicingSpec`s.
        raw_types: the TensorFlow type of each raw feature by which rows may be sliced.
        keep: names of transformed features to give with the rows, where a model has them.

    Raises:
        Unsupported: as `Served`, or a model gives no label.
    """
    slicing, wanted = Slicing(slicing_specs), set(keep)
    label_keys = {name: spec.label_key for name, (_, spec) in models.items()}
    predictions: dict[str, list[Array]] = {name: [] for name in models}
    labels: dict[str, list[Array]] = {name: [] for name in models}
    kept: dict[str, dict[str, list[Array]]] = {name: {} for name in models}
    with ExitStack() as stack:
        served = {}
        for name, (path, spec) in models.items():
            served[name] = Served(path, spec, {spec.label_key, *slicing.features, *wanted})
            stack.callback(served[name].close)
            if spec.label_key not in served[name].features:
                raise Unsupported(f"the label {spec.label_key!r} is not among the transformed features")
        # As TFMA: a raw feature counts only where no model transforms one of its name.
        others = set(slicing.features).difference(*(model.features for model in served.values()))
        types = {key: kind for key, kind in raw_types.items() if key in others}
        beside = stack.enter_context(_one_behind())  # the batch before is sliced while the models answer this one
        for batch in _batches(files):
            transformed = []
            for name, model in served.items():
                prediction, features = model.run(batch)
                predictions[name].append(prediction)
                labels[name].append(features[label_keys[name]])
                for key in wanted & features.keys():
                    kept[name].setdefault(key, []).append(features[key])
                transformed.append({key: features[key] for key in slicing.features if key in features})
            beside(partial(_slice, slicing, transformed, batch, types))
            progress.advance(len(batch))
    if not slicing.count:
        raise Unsupported("there are no rows")
    joined = [{name: np.concatenate(arrays) for name, arrays in columns.items()} for columns in (labels, predictions)]
    given = {name: {key: np.concatenate(arrays) for key, arrays in one.items()} for name, one in kept.items()}
    return Rows(slicing.count, joined[0], joined[1], slicing.rows(), given)


def _slice(
    slicing: Slicing, transformed: Sequence[Mapping[str, Array]], batch: Array, types: Mapping[str, Any]
) -> None:
    slicing.add(transformed, _raw(batch, types), len(batch))


@contextmanager
def _one_behind() -> Iterator[Callable[[Callable[[], None]], None]]:
    """What does a piece of work in another thread, once the piece before it is done; the last is waited for."""
    waiting: deque[Future[None]] = deque()

    def wait() -> None:
        while waiting:
            waiting.popleft().result()

    def begin(work: Callable[[], None]) -> None:
        wait()
        waiting.append(thread.submit(work))

    with ThreadPoolExecutor(1) as thread:
        yield begin
        wait()


def _batches(files: Sequence[str]) -> Iterator[Array]:
    for file in sorted(files):
        compression = "GZIP" if Path(file).suffix == ".gz" else ""
        records = tf.data.TFRecordDataset(file, compression, buffer_size=_READ_BUFFER_BYTES)
        yield from records.batch(_BATCH_ROWS).prefetch(2).as_numpy_iterator()


def _raw(examples: Array, types: Mapping[str, Any]) -> dict[str, RawValues]:
    """The values of raw features."""
    if not types:
        return {}
    parsed = tf.io.parse_example(examples, {name: tf.io.VarLenFeature(kind) for name, kind in types.items()})
    columns = {}
    for name, tensor in parsed.items():
        rows = tensor.indices.numpy()[:, 0]
        ends = np.searchsorted(rows, np.arange(1, len(examples) + 1))
        columns[name] = RawValues(tensor.values.numpy(), ends)
    return columns


def _two_dimensional(array: Array) -> Array:
    return array.reshape(-1, 1) if array.ndim == 1 else array


def _hashable(array: Array) -> list[Any]:
    """One value per row."""
    if array.shape[1:] == (1,):
        return list(array[:, 0].tolist())
    return [tuple(np.ravel(row).tolist()) for row in array]
