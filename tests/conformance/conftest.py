"""The servers that the suite runs against, each started once."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import grpc
import pytest


@dataclass(frozen=True)
class Target:
    """A server under test: addresses, and what is needed to ask it."""

    grpc_address: str
    rest_address: str

    @cached_property
    def channel(self):
        return grpc.insecure_channel(self.grpc_address)

    @cached_property
    def prediction(self):
        from tensorflow_serving.apis import prediction_service_pb2_grpc

        return prediction_service_pb2_grpc.PredictionServiceStub(self.channel)

    @cached_property
    def models(self):
        from tensorflow_serving.apis import model_service_pb2_grpc

        return model_service_pb2_grpc.ModelServiceStub(self.channel)

    def rest(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """Status and document of a GET, or of a POST where there is a body: bytes, or what JSON can say."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.rest_address}{path}", data=data, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            text = error.read()
            return error.code, json.loads(text) if text.startswith(b"{") else text


@pytest.fixture(scope="session", params=["embedded", "embedded-strict", "real"])
def target(request):
    """A server with the models of `tests.serving.models`."""
    if request.param == "real":
        addresses = os.environ.get("TF_SERVING_ADDRESS", "")
        if not addresses:
            pytest.skip("no real TF Serving: set TF_SERVING_ADDRESS=HOST:GRPC_PORT,HOST:REST_PORT")
        yield Target(*addresses.split(","))
        return
    from serving.server.app import ModelServer, ServerOptions
    from serving.server.manager import Options

    options = ServerOptions(
        grpc_port=0,
        rest_port=0,
        versions=Options(strict=request.param == "embedded-strict", poll_s=0.2),
        config_file=request.getfixturevalue("small_models") / "models.config",
    )
    with ModelServer([], options) as server:
        found = Target(f"127.0.0.1:{server.grpc_port}", f"127.0.0.1:{server.rest_port}")
        yield found
        found.channel.close()
