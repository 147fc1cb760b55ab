"""Asking a server that runs in the test's own process."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request

import grpc
import numpy as np
from tensorflow_serving.apis import model_service_pb2_grpc, predict_pb2, prediction_service_pb2_grpc

from serving.server.tensors import encode


def stub(server, channel=None):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel or channel_to(server))


def models_stub(server):
    return model_service_pb2_grpc.ModelServiceStub(channel_to(server))


def channel_to(server):
    return grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}")


def request_for(*values, name="m", signature=""):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    encode(np.array(values, np.float32), request.inputs["x"])
    return request


def rest(server, path, body=None, headers=None):
    """Status and text of a GET, or of a POST where there is a body."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{server.rest_port}{path}", data=data, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def until(wanted, seconds=120):
    deadline = time.monotonic() + seconds
    while not (held := wanted()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert held
