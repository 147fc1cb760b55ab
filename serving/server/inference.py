"""TF Serving's calls on loaded models, from request proto to response proto; gRPC and REST stand on top."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.server.batching import Batcher, BatchingParameters, examples_in
from serving.server.manager import Manager
from serving.server.metrics import Metrics
from serving.server.model import DEFAULT_SIGNATURE, LoadedModel
from serving.server.status import Refusal
from serving.server.tensors import Array, decode, encode

__all__ = ["Inference", "spec_of"]

_CLASSIFY = "tensorflow/serving/classify"
_REGRESS = "tensorflow/serving/regress"
_STATES = {"START": 10, "LOADING": 20, "AVAILABLE": 30, "UNLOADING": 40, "END": 50}
_ERRORS = {
    "OK": 0, "CANCELLED": 1, "UNKNOWN": 2, "INVALID_ARGUMENT": 3, "DEADLINE_EXCEEDED": 4, "NOT_FOUND": 5,
    "RESOURCE_EXHAUSTED": 8, "FAILED_PRECONDITION": 9, "OUT_OF_RANGE": 11, "UNIMPLEMENTED": 12, "INTERNAL": 13,
    "UNAVAILABLE": 14, "DATA_LOSS": 15,
}  # fmt: skip
_SIGNATURES = "signature_def"
_MAX_QUEUES = 16
"""Queues of one version, each for one set of outputs; clients that ask for more sets share that of all outputs."""

Answer = tuple[list[Array], list[str]]


def spec_of(spec: Any) -> tuple[str, int | None, str | None]:
    """Name, version and label of a `ModelSpec`; None for what is not given."""
    choice = spec.WhichOneof("version_choice")
    return (
        spec.name,
        spec.version.value if choice == "version" else None,
        spec.version_label if choice == "version_label" else None,
    )


class Inference:
    """Answers requests with the models of a manager."""

    def __init__(self, manager: Manager, metrics: Metrics, batching: BatchingParameters | None = None) -> None:
        """Makes it.

        Args:
            manager: of versions.
            metrics: that count what happens.
            batching: of requests that arrive together; None runs each alone.
        """
        self._manager = manager
        self._metrics = metrics
        self._batching = batching
        self._batchers: dict[LoadedModel, dict[tuple[str, tuple[str, ...]], Batcher]] = {}

    def known(self, name: str) -> str:
        """A model's name for a label of a figure: "" for one that is not served, so that nobody can fill the page."""
        return name if name in self._manager.names else ""

    @property
    def batches(self) -> bool:
        """Whether a request may wait for others."""
        return self._batching is not None

    # --- calls ----------------------------------------------------------------------------------------------------

    def predict(self, request: Any) -> Any:
        """`Predict`: named tensors in, named tensors out.

        Raises:
            Refusal: in TF Serving's words.
        """
        with self._manager.use(*spec_of(request.model_spec)) as model:
            return self.predict_on(model, request)

    def predict_on(self, model: LoadedModel, request: Any) -> Any:
        """The same on a version that is at hand."""
        name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        signature = model.signatures.get(name)
        if signature is None:
            raise Refusal("FAILED_PRECONDITION", f'Serving signature key "{name}" not found.')
        inputs = _inputs(signature, request.inputs)
        outputs = _wanted_outputs(signature, request.output_filter)
        values = self._run(model, "Predict", name, inputs, outputs)
        response = predict_pb2.PredictResponse()
        _fill_spec(response.model_spec, model, name)
        for alias, value in zip(outputs, values, strict=True):
            encode(value, response.outputs[alias], signature.outputs[alias].dtype)
        return response

    def predict_arrays(self, model: LoadedModel, signature: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs of a signature that is there, for all of its inputs, without messages around them.

        Raises:
            Refusal: in TF Serving's words.
        """
        outputs = sorted(model.signatures[signature].outputs)
        ordered = {alias: inputs[alias] for alias in sorted(inputs)}
        return dict(zip(outputs, self._run(model, "Predict", signature, ordered, outputs), strict=True))

    def classify(self, request: Any) -> Any:
        """`Classify`: tf.Examples in, classes and scores out.

        Raises:
            Refusal: in TF Serving's words.
        """
        with self._manager.use(*spec_of(request.model_spec)) as model:
            return self.classify_on(model, request)

    def classify_on(self, model: LoadedModel, request: Any) -> Any:
        """The same on a version that is at hand."""
        name, signature = _signature_of(model, request.model_spec)
        outputs = _classification(signature)
        examples = _examples(request.input)
        values = self._run(model, "Classify", name, {"inputs": examples}, outputs)
        response = classification_pb2.ClassificationResponse()
        _fill_spec(response.model_spec, model, name)
        _fill_classes(response.result, len(examples), dict(zip(outputs, values, strict=True)))
        return response

    def regress(self, request: Any) -> Any:
        """`Regress`: tf.Examples in, one number for each out.

        Raises:
            Refusal: in TF Serving's words.
        """
        with self._manager.use(*spec_of(request.model_spec)) as model:
            return self.regress_on(model, request)

    def regress_on(self, model: LoadedModel, request: Any) -> Any:
        """The same on a version that is at hand."""
        name, signature = _signature_of(model, request.model_spec)
        _regression(signature)
        examples = _examples(request.input)
        (values,) = self._run(model, "Regress", name, {"inputs": examples}, ["outputs"])
        response = regression_pb2.RegressionResponse()
        _fill_spec(response.model_spec, model, name)
        _fill_regressions(response.result, len(examples), values)
        return response

    def multi_inference(self, request: Any) -> Any:
        """`MultiInference`: the same tf.Examples through several signatures of one model.

        Raises:
            Refusal: in TF Serving's words.
        """
        if not request.tasks:
            raise Refusal("INVALID_ARGUMENT", "Inference request must have at least one task.")
        with self._manager.use(*spec_of(request.tasks[0].model_spec)) as model:
            return self.multi_inference_on(model, request)

    def multi_inference_on(self, model: LoadedModel, request: Any) -> Any:
        """The same on a version that is at hand."""
        plans = _plans(model, request.tasks)
        examples = _examples(request.input)
        response = inference_pb2.MultiInferenceResponse()
        for method, name, outputs in plans:
            values = self._run(model, "MultiInference", name, {"inputs": examples}, outputs)
            result = response.results.add()
            _fill_spec(result.model_spec, model, name)
            if method == _CLASSIFY:
                _fill_classes(result.classification_result, len(examples), dict(zip(outputs, values, strict=True)))
            else:
                _fill_regressions(result.regression_result, len(examples), values[0])
        return response

    def metadata(self, request: Any) -> Any:
        """`GetModelMetadata`: the signatures of a version.

        Raises:
            Refusal: in TF Serving's words.
        """
        if not request.HasField("model_spec"):
            raise Refusal("INVALID_ARGUMENT", "Missing ModelSpec")
        if not request.metadata_field:
            raise Refusal("INVALID_ARGUMENT", "GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != _SIGNATURES:
                raise Refusal("INVALID_ARGUMENT", f"Metadata field {field} is not supported")
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        with self._manager.use(*spec_of(request.model_spec)) as model:
            response.model_spec.name = model.name
            response.model_spec.version.value = model.version
            signatures = get_model_metadata_pb2.SignatureDefMap()
            for name, definition in model.signatures.items():
                signatures.signature_def[name].CopyFrom(definition)
        response.metadata[_SIGNATURES].Pack(signatures)
        return response

    def status(self, request: Any) -> Any:
        """`GetModelStatus`: the states of a model's versions.

        Raises:
            Refusal: in TF Serving's words.
        """
        if not request.HasField("model_spec"):
            raise Refusal("INVALID_ARGUMENT", "Missing ModelSpec")
        name, version, _ = spec_of(request.model_spec)
        response = get_model_status_pb2.GetModelStatusResponse()
        for one in self._manager.status(name, version):
            found = response.model_version_status.add(version=one.version, state=_STATES[one.state])
            found.status.error_code = _ERRORS[one.code]
            found.status.error_message = one.message
        return response

    def forget(self, model: LoadedModel) -> None:
        """Ends the queues of a version which is unloaded."""
        for batcher in self._batchers.pop(model, {}).values():
            batcher.close()

    # --- running --------------------------------------------------------------------------------------------------

    def _run(
        self, model: LoadedModel, api: str, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]
    ) -> list[Array]:
        started = time.perf_counter()
        if self._batching is None or not inputs:
            values = model.run(signature, inputs, outputs)
        else:
            values = self._run_batched(model, signature, inputs, outputs)
        labels = {"model_name": model.name, "API": api, "runtime": "TF1", "version": str(model.version)}
        self._metrics.latency(":tensorflow:serving:runtime_latency", labels, (time.perf_counter() - started) * 1e6)
        self._metrics.count(
            ":tensorflow:serving:request_example_count_total", {"model": model.name}, examples_in(inputs)
        )
        return values

    def _run_batched(
        self, model: LoadedModel, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]
    ) -> list[Array]:
        assert self._batching is not None
        queues = self._batchers.setdefault(model, {})
        chosen = tuple(outputs)
        if (signature, chosen) not in queues and len(queues) >= _MAX_QUEUES:
            chosen = tuple(sorted(model.signatures[signature].outputs))
        queue = queues.get((signature, chosen))
        if queue is None:
            run = partial(model.run, signature, outputs=chosen)
            new = Batcher(run, self._batching, self._on_batch(model.name))
            queue = queues.setdefault((signature, chosen), new)
            if queue is not new:
                new.close()
        values = dict(zip(chosen, queue.submit(inputs), strict=True))
        return [values[alias] for alias in outputs]

    def _on_batch(self, name: str) -> Callable[[int, float], None]:
        labels = {"model_name": name}

        def tell(size: int, waited_us: float) -> None:
            self._metrics.size(":tensorflow:serving:batching_session:processed_batch_size", labels, size)
            self._metrics.latency(":tensorflow:serving:batching_session:queuing_latency", labels, waited_us)

        return tell


# --- inputs and outputs ---------------------------------------------------------------------------------------------


def _inputs(signature: Any, given: Mapping[str, Any]) -> dict[str, Array]:
    if len(given) > len(signature.inputs) or (len(given) < len(signature.inputs) and not signature.defaults):
        sent, needed = set(given), set(signature.inputs)
        raise Refusal(
            "INVALID_ARGUMENT",
            f"input size does not match signature: {len(given)}!={len(signature.inputs)} "
            f"len({{{_joined(sent)}}}) != len({{{_joined(needed)}}}). Sent extra: {{{_joined(sent - needed)}}}. "
            f"Missing but required: {{{_joined(needed - sent)}}}.",
        )
    values = {}
    for alias in sorted(given):
        if alias not in signature.inputs:
            raise Refusal(
                "INVALID_ARGUMENT",
                f"input tensor alias not found in signature: {alias}. Inputs expected to be in the set "
                f"{{{_joined(signature.inputs)}}}.",
            )
        values[alias] = decode(alias, given[alias])
    for alias in signature.inputs:
        if alias not in values:
            if alias not in signature.defaults:
                raise Refusal("INVALID_ARGUMENT", f"Missing input tensor: {alias}")
            values[alias] = decode(alias, signature.defaults[alias])
    return values


def _wanted_outputs(signature: Any, wanted: Sequence[str]) -> list[str]:
    if not wanted:
        return sorted(signature.outputs)
    seen: set[str] = set()
    for alias in wanted:
        if alias not in signature.outputs:
            raise Refusal(
                "INVALID_ARGUMENT",
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{{{_joined(signature.outputs)}}}.",
            )
        if alias in seen:
            raise Refusal("INVALID_ARGUMENT", f"duplicate output tensor alias: {alias}")
        seen.add(alias)
    return sorted(seen)  # their order is nobody's business, and each set of outputs is compiled once


def _joined(names: Any) -> str:
    return ",".join(sorted(names))


def _fill_spec(spec: Any, model: LoadedModel, signature: str) -> None:
    spec.name = model.name
    spec.version.value = model.version
    spec.signature_name = signature


def _signature_of(model: LoadedModel, spec: Any) -> tuple[str, Any]:
    name = spec.signature_name or DEFAULT_SIGNATURE
    if name not in model.signatures:
        raise Refusal("INVALID_ARGUMENT", f"No signature was found with the name: {name}")
    return name, model.signatures[name]


def _examples(given: Any) -> Array:
    """The tf.Examples of an `Input`, serialized; the context is joined to each, as protobuf merges what is repeated."""
    kind = given.WhichOneof("kind")
    listed = getattr(given, kind).examples if kind else []
    if not listed:
        raise Refusal("INVALID_ARGUMENT", "Input is empty.")
    context = given.example_list_with_context.context.SerializeToString() if kind.endswith("context") else b""
    examples = np.empty(len(listed), object)
    examples[:] = [context + example.SerializeToString() for example in listed]
    return examples


def _plans(model: LoadedModel, tasks: Sequence[Any]) -> list[tuple[str, str, list[str]]]:
    """Method, signature and outputs of each task."""
    plans: list[tuple[str, str, list[str]]] = []
    for task in tasks:
        if not task.model_spec.name:
            raise Refusal("INVALID_ARGUMENT", "Found ModelSpec with an empty model name.")
        if task.model_spec.name != model.name:
            raise Refusal(
                "INVALID_ARGUMENT", "All ModelSpecs in a MultiInferenceRequest must access the same model name."
            )
        name = task.model_spec.signature_name or DEFAULT_SIGNATURE
        if any(name == planned for _, planned, _ in plans):
            raise Refusal("INVALID_ARGUMENT", f"Duplicate evaluation of signature: {name}")
        if name not in model.signatures:
            raise Refusal("INVALID_ARGUMENT", f"Requested signature not found in model graph: {name}")
        signature = model.signatures[name]
        if task.method_name == _CLASSIFY:
            outputs = _classification(signature)
        elif task.method_name == _REGRESS:
            _regression(signature)
            outputs = ["outputs"]
        else:
            raise Refusal("UNIMPLEMENTED", f"Unsupported signature method_name: {task.method_name}")
        plans.append((task.method_name, name, outputs))
    return plans


# --- classification -------------------------------------------------------------------------------------------------


def _classification(signature: Any) -> list[str]:
    if len(signature.inputs) != 1:
        raise Refusal("INVALID_ARGUMENT", "Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise Refusal("INVALID_ARGUMENT", f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if "inputs" not in signature.inputs:
        raise Refusal("INVALID_ARGUMENT", f"No classification inputs found in SignatureDef: {signature}")
    outputs = [alias for alias in ("classes", "scores") if alias in signature.outputs]
    if not outputs:
        raise Refusal(
            "INVALID_ARGUMENT",
            'Expected classification signature outputs to contain at least one of "classes" or "scores". Signature '
            f"was: {signature}",
        )
    return outputs


def _fill_classes(result: Any, count: int, outputs: Mapping[str, Array]) -> None:
    classes, scores = outputs.get("classes"), outputs.get("scores")
    if classes is not None:
        _check_matrix(classes, count, "classes", np.dtype(object), "DT_STRING")
    if scores is not None:
        _check_matrix(scores, count, "scores", np.dtype(np.float32), "DT_FLOAT")
    widths = [values.shape[1] for values in (classes, scores) if values is not None]
    if len(set(widths)) > 1:
        raise Refusal(
            "INVALID_ARGUMENT",
            f"Tensors class and score should match in dim_size(1). Got {widths[0]} vs. {widths[1]}",
        )
    for row in range(count):
        one = result.classifications.add()
        for column in range(widths[0]):
            label = "" if classes is None else classes[row, column].decode("utf-8", errors="replace")
            one.classes.add(label=label, score=0.0 if scores is None else float(scores[row, column]))


def _check_matrix(values: Array, count: int, name: str, dtype: np.dtype[Any], spelled: str) -> None:
    if values.ndim != 2:
        shape = ",".join(str(size) for size in values.shape)
        raise Refusal("INVALID_ARGUMENT", f"Expected Tensor shape: [batch_size num_classes] but got [{shape}]")
    if values.dtype != dtype:
        raise Refusal("INVALID_ARGUMENT", f"Expected {name} Tensor of {spelled}. Got: {values.dtype}")
    if len(values) != count:
        raise Refusal("INVALID_ARGUMENT", f"Expected {name} output batch size of {count}. Got: {len(values)}")


# --- regression -----------------------------------------------------------------------------------------------------


def _regression(signature: Any) -> None:
    if len(signature.inputs) != 1:
        raise Refusal("INVALID_ARGUMENT", "Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise Refusal("INVALID_ARGUMENT", "Expected one output Tensor.")
    if "inputs" not in signature.inputs:
        raise Refusal("INVALID_ARGUMENT", f"No regression inputs found in SignatureDef: {signature}")
    if "outputs" not in signature.outputs:
        raise Refusal("INVALID_ARGUMENT", f"No regression outputs found in SignatureDef: {signature}")


def _fill_regressions(result: Any, count: int, values: Array) -> None:
    if not (values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)):
        shape = ",".join(str(size) for size in values.shape)
        raise Refusal(
            "INVALID_ARGUMENT",
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [{shape}]",
        )
    if len(values) != count:
        raise Refusal(
            "INVALID_ARGUMENT", f"Input batch size did not match output batch size: {count} vs. {len(values)}"
        )
    if values.dtype != np.float32:
        raise Refusal("INVALID_ARGUMENT", f"Expected output Tensor of DT_FLOAT.  Got: {values.dtype}")
    for value in values.reshape(-1).tolist():
        result.regressions.add(value=value)
