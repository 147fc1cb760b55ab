"""The gRPC interface: PredictionService and ModelService, their answers, codes and messages."""

from __future__ import annotations

import grpc
import numpy as np
import pytest


def predict_request(values, name="half", signature="", version=None, label=None, alias="x"):
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    fill(request.model_spec, name, signature, version, label)
    request.inputs[alias].CopyFrom(tf.make_tensor_proto(values))
    return request


def fill(spec, name="half", signature="", version=None, label=None):
    spec.name = name
    spec.signature_name = signature
    if version is not None:
        spec.version.value = version
    if label is not None:
        spec.version_label = label


def floats(values):
    return np.array(values, np.float32)


def examples(request, *values):
    for value in values:
        request.input.example_list.examples.add().features.feature["x"].float_list.value.append(value)
    return request


def refused(call, request):
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=60)
    return caught.value.code().name, caught.value.details()


def test_predict(target):
    """The outputs, one by one in their own field, and which version answered under which signature."""
    answer = target.prediction.Predict(predict_request(floats([1, 2])), timeout=60)
    assert list(answer.outputs["y"].float_val) == [3.5, 4.0]
    assert [dim.size for dim in answer.outputs["y"].tensor_shape.dim] == [2]
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("half", 2)
    assert answer.model_spec.signature_name == "serving_default"


def test_values_one_by_one_and_as_bytes(target):
    """Both ways of writing a tensor; fewer values than the shape says repeat the last one."""
    request = predict_request(floats([1, 1, 1]))
    request.inputs["x"].ClearField("tensor_content")
    request.inputs["x"].float_val[:] = [1, 2]
    answer = target.prediction.Predict(request, timeout=60)
    assert list(answer.outputs["y"].float_val) == [3.5, 4.0, 4.0]


@pytest.mark.parametrize(
    ("version", "label", "expected"), [(1, None, 2.5), (2, None, 3.5), (None, "stable", 2.5), (None, "canary", 3.5)]
)
def test_versions_and_labels(target, version, label, expected):
    """The one that is asked for."""
    answer = target.prediction.Predict(predict_request(floats([1]), version=version, label=label), timeout=60)
    assert list(answer.outputs["y"].float_val) == [expected]


def test_output_filter(target):
    """Only what is asked for is sent."""
    import tensorflow as tf

    request = predict_request(floats([[1, 2]]), signature="several", alias="a")
    request.inputs["b"].CopyFrom(tf.make_tensor_proto(np.array([5], np.int64)))
    request.inputs["s"].CopyFrom(tf.make_tensor_proto([b"\xff"]))
    request.output_filter.extend(["raw_bytes", "twice"])
    answer = target.prediction.Predict(request, timeout=60)
    assert sorted(answer.outputs) == ["raw_bytes", "twice"]
    assert list(answer.outputs["twice"].int64_val) == [10]
    assert list(answer.outputs["raw_bytes"].string_val) == [b"\xff"]


def test_classify_and_regress(target):
    """tf.Examples in; classes with scores, and numbers, out."""
    from tensorflow_serving.apis import classification_pb2, regression_pb2

    request = examples(classification_pb2.ClassificationRequest(), 0.25, 1.0)
    fill(request.model_spec, signature="classify")
    answer = target.prediction.Classify(request, timeout=60)
    found = [[(one.label, one.score) for one in row.classes] for row in answer.result.classifications]
    assert found == [[("low", 0.75), ("high", 0.25)], [("low", 0.0), ("high", 1.0)]]
    request = examples(regression_pb2.RegressionRequest(), 1.0, 2.0)
    fill(request.model_spec, signature="regress")
    answer = target.prediction.Regress(request, timeout=60)
    assert [one.value for one in answer.result.regressions] == [3.5, 4.0]


def test_multi_inference(target):
    """The same examples through two signatures."""
    from tensorflow_serving.apis import inference_pb2

    request = examples(inference_pb2.MultiInferenceRequest(), 1.0)
    for signature in ("classify", "regress"):
        task = request.tasks.add(method_name=f"tensorflow/serving/{signature}")
        fill(task.model_spec, signature=signature)
    answer = target.prediction.MultiInference(request, timeout=60)
    assert [one.label for one in answer.results[0].classification_result.classifications[0].classes] == ["low", "high"]
    assert [one.value for one in answer.results[1].regression_result.regressions] == [3.5]
    assert [one.model_spec.signature_name for one in answer.results] == ["classify", "regress"]


def test_metadata(target):
    """The signatures, in an `Any`."""
    from tensorflow_serving.apis import get_model_metadata_pb2

    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    fill(request.model_spec)
    answer = target.prediction.GetModelMetadata(request, timeout=60)
    found = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(found)
    assert set(found.signature_def) >= {"serving_default", "several", "classify", "regress"}
    assert answer.model_spec.version.value == 2
    request.metadata_field[:] = ["odd"]
    code, message = refused(target.prediction.GetModelMetadata, request)
    assert (code, message) == ("INVALID_ARGUMENT", "Metadata field odd is not supported")


def test_status(target):
    """States and errors of all versions."""
    from tensorflow_serving.apis import get_model_status_pb2

    request = get_model_status_pb2.GetModelStatusRequest()
    fill(request.model_spec)
    answer = target.models.GetModelStatus(request, timeout=60)
    assert sorted((one.version, one.state) for one in answer.model_version_status) == [(1, 30), (2, 30)]
    fill(request.model_spec, name="none")
    assert refused(target.models.GetModelStatus, request) == ("NOT_FOUND", "Could not find any versions of model none")


@pytest.mark.parametrize(
    ("request_of", "code", "words"),
    [
        (lambda: predict_request(floats([1]), name=""), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
        (lambda: predict_request(floats([1]), name="no"), "NOT_FOUND", "Servable not found for request: Latest(no)"),
        (
            lambda: predict_request(floats([1]), version=7),
            "NOT_FOUND",
            "Servable not found for request: Specific(half, 7)",
        ),
        (
            lambda: predict_request(floats([1]), label="odd"),
            "INVALID_ARGUMENT",
            "Unrecognized servable version label: odd",
        ),
        (lambda: predict_request(floats([1]), signature="odd"), "FAILED_PRECONDITION", '"odd" not found.'),
        (lambda: predict_request(floats([1]), alias="z"), "INVALID_ARGUMENT", "z"),
        (lambda: predict_request(np.array([1], np.int64)), "INVALID_ARGUMENT", "float"),
        (
            lambda: predict_request(floats([[[1]]]), signature="several"),
            "INVALID_ARGUMENT",
            "input size does not match",
        ),
        (lambda: predict_request(floats([-1]), signature="positive"), "INVALID_ARGUMENT", "x must be positive"),
    ],
)
def test_refusals(target, request_of, code, words):
    """Code and words."""
    found, message = refused(target.prediction.Predict, request_of())
    assert found == code
    assert words in message


def test_unknown_output(target):
    """Is named."""
    request = predict_request(floats([1]))
    request.output_filter.append("odd")
    code, message = refused(target.prediction.Predict, request)
    assert code == "INVALID_ARGUMENT"
    assert "output tensor alias not found in signature: odd" in message
    request.output_filter[:] = ["y", "y"]
    assert refused(target.prediction.Predict, request) == ("INVALID_ARGUMENT", "duplicate output tensor alias: y")


def test_a_reload_that_names_no_models(target):
    """Is refused, and takes nothing away."""
    from tensorflow_serving.apis import model_management_pb2

    code, message = refused(target.models.HandleReloadConfigRequest, model_management_pb2.ReloadConfigRequest())
    assert code == "INVALID_ARGUMENT"
    assert "Only ModelConfigList is currently supported" in message
    assert target.prediction.Predict(predict_request(floats([1])), timeout=60).model_spec.version.value == 2


def test_no_examples(target):
    """Are refused."""
    from tensorflow_serving.apis import classification_pb2

    request = classification_pb2.ClassificationRequest()
    fill(request.model_spec, signature="classify")
    assert refused(target.prediction.Classify, request) == ("INVALID_ARGUMENT", "Input is empty.")
