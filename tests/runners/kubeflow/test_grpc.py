"""ML Metadata behind gRPC. The wheel has no server program, so its own C++ store is put behind the generated service."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest
from google.protobuf import message_factory
from ml_metadata.metadata_store.pywrap.metadata_store_extension import metadata_store as extension
from ml_metadata.proto import metadata_store_pb2, metadata_store_service_pb2

from components.lineage.store import connection_config, open_store
from schemas.config import MetadataConfig, SqliteConfig
from schemas.errors import MetadataError
from tests.runners.kubeflow.test_node import Cluster

_CODES = {code.value[0]: code for code in grpc.StatusCode}


@pytest.fixture
def port(tmp_path) -> Iterator[int]:
    """Of a server that answers every call of the service out of a SQLite file."""
    connection = connection_config(MetadataConfig(sqlite=SqliteConfig(path=str(tmp_path / "behind.db"))))
    options = metadata_store_pb2.MigrationOptions().SerializeToString()
    store = extension.CreateMetadataStore(connection.SerializeToString(), options)
    service = metadata_store_service_pb2.DESCRIPTOR.services_by_name["MetadataStoreService"]
    lock = threading.Lock()
    handlers = {}
    for method in service.methods:
        function = getattr(extension, method.name, None)
        request, response = map(message_factory.GetMessageClass, (method.input_type, method.output_type))
        if function is None:
            continue

        def answer(given, context, function=function, response=response):
            with lock:
                text, message, code = function(store, given.SerializeToString())
            if code:
                context.abort(_CODES[code], message.decode())
            return response.FromString(text)

        handlers[method.name] = grpc.unary_unary_rpc_method_handler(
            answer, request_deserializer=request.FromString, response_serializer=response.SerializeToString
        )
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))
    bound = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield bound
    server.stop(0).wait()


def test_a_node_leaves_its_records_behind_grpc(port: int, tmp_path) -> None:
    """Its execution, its output, and the run's own record."""
    cluster = Cluster(tmp_path / "cluster")
    cluster.desk.metadata = MetadataConfig.model_validate({"grpc": {"host": "127.0.0.1", "port": port}})
    cluster.desk.store = open_store(cluster.desk.metadata)
    cluster.open("first")
    assert cluster.run("Numbers", "first") == (0, {"state": "ran"})
    run, nodes = cluster.close("first")
    assert (nodes["Numbers"].state, [one.key for one in nodes["Numbers"].outputs]) == ("ran", ["examples"])
    assert run.outcome == "failed"  # the rest of the graph never came to a decision


def test_nobody_there_is_one_message() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # and does not listen, nor lets anybody else
        port = silent.getsockname()[1]
        with pytest.raises(MetadataError, match=rf"metadata.grpc at 127.0.0.1:{port}: cannot be opened"):
            open_store(MetadataConfig.model_validate({"grpc": {"host": "127.0.0.1", "port": port}}))
