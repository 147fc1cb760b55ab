"""TLS from the client to HAProxy and nginx, and from there to a server that asks for certificates."""

from __future__ import annotations

import http.client
import json
import ssl

import grpc
import pytest

from bench.fleet import free_ports, running, until
from serving.deploy import make_plan, render, write
from serving.server.app import ModelServer, ServerOptions
from serving.server.config import ModelConfig, Policy
from serving.server.grpc_api import Tls
from tests.serving.deploy.conftest import addresses, configuration, everything, require
from tests.serving.server.asking import request_for, stub


@pytest.fixture(scope="module")
def server(small_models, certificates):
    """Asks clients for a certificate over gRPC; REST is in the clear."""
    tls = Tls(certificates / "server.key", certificates / "server.pem", certificates / "ca.pem")
    options = ServerOptions(grpc_port=0, rest_port=0, tls=tls)
    with ModelServer([ModelConfig("taxi", small_models / "half", Policy("all"))], options) as found:
        yield found


@pytest.mark.parametrize("kind", ["haproxy", "nginx"])
def test_tls_all_the_way(server, certificates, versions, tmp_path, kind):
    """Who shows a certificate is answered over both faces; who does not, or talks in the clear, is not."""
    require(kind)
    ports = free_ports(3)
    listen = dict(zip(("grpc_port", "rest_port", "stats_port"), ports, strict=True))
    tls = everything(certificates)["tls"]
    serving = {"tls": tls, "listen": listen, "addresses": addresses((server.grpc_port, server.rest_port))}
    write(render(make_plan(configuration(versions, serving))), tmp_path / "out")
    if kind == "haproxy":
        command = ["haproxy", "-db", "-f", str(tmp_path / "out/haproxy/haproxy.cfg")]
    else:
        command = ["nginx", "-p", str(tmp_path), "-e", "stderr", "-c", str(tmp_path / "out/nginx/nginx.conf")]
        command += ["-g", f"daemon off; master_process off; pid {tmp_path}/pid;"]
    root, key, chain = ((certificates / name).read_bytes() for name in ("ca.pem", "server.key", "server.pem"))
    known = ssl.create_default_context(cafile=certificates / "ca.pem")
    stranger = ssl.create_default_context(cafile=certificates / "ca.pem")
    known.load_cert_chain(certificates / "server.pem", certificates / "server.key")

    def over_rest(context):
        connection = http.client.HTTPSConnection("127.0.0.1", ports[1], timeout=60, context=context)
        try:
            connection.request("POST", "/v1/models/taxi/versions/1:predict", json.dumps({"inputs": [1]}))
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    def over_grpc(credentials):
        request = request_for(1, name="taxi")
        request.model_spec.version.value = 1
        with grpc.secure_channel(f"127.0.0.1:{ports[0]}", credentials) as channel:
            return list(stub(server, channel).Predict(request, timeout=60).outputs["y"].float_val)

    with running(command, tmp_path / "log") as process:
        until(lambda: process.poll() is not None or over_rest(known)[0] == 200)
        assert process.poll() is None, (tmp_path / "log").read_text()
        assert json.loads(over_rest(known)[1]) == {"outputs": [2.5]}
        assert over_grpc(grpc.ssl_channel_credentials(root, key, chain)) == [2.5]
        assert over_rest(stranger)[0] in (0, 400)
        with pytest.raises(grpc.RpcError):
            over_grpc(grpc.ssl_channel_credentials(root))
