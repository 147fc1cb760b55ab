"""`nginx.conf`: the same as `haproxy.cfg` for those who run nginx, with checks that are passive."""

from __future__ import annotations

from collections.abc import Iterator

from schemas.config import CanaryConfig
from serving.deploy.plan import GRPC_PORT, REST_PORT, Plan

__all__ = ["nginx_conf"]


def nginx_conf(plan: Plan) -> str:
    """The configuration of a load balancer.

    nginx learns that a server is gone from requests that fail there: each is sent to the next one, predictions too,
    which are POST requests and change nothing, and the server is left alone for some seconds. It keeps no request over
    gRPC once that is sent: one that was under way on a server that dies ends with UNAVAILABLE, and a client with a retry
    policy sends it again.
    """
    return "\n".join(_lines(plan))


def _lines(plan: Plan) -> Iterator[str]:
    yield f"""\
# Rendered by `satisfice deploy render` for the model {plan.model}.
worker_processes auto;
error_log stderr warn;

events {{
    worker_connections 4096;
}}

http {{
    access_log off;
    client_max_body_size 64m;
    client_body_buffer_size 1m;
    keepalive_requests 100000;
"""
    for face in ("grpc", "rest"):
        yield f"    upstream {face} {{"
        yield f"        zone {face} 64k;"
        yield "        least_conn;"
        for server in plan.servers:
            address = server.grpc if face == "grpc" else server.rest
            yield f"        server {address} max_fails=1 fail_timeout=2s;"
        yield "        keepalive 32;\n    }\n"
    if plan.serving.canary:
        yield from _split(plan.serving.canary)
    yield from _grpc(plan)
    yield from _rest(plan)
    yield "}\n"


def _split(canary: CanaryConfig) -> Iterator[str]:
    draw = "$request_id"
    if canary.header:
        variable = f"$http_{canary.header.lower().replace('-', '_')}"
        yield f'    map {variable} $draw {{\n        "" $request_id;\n        default {variable};\n    }}'
        draw = "$draw"
    yield f'    split_clients "{draw}" $label {{\n        {canary.share * 100:.2f}% {canary.label};\n        * {canary.stable};\n    }}\n'


def _listen(plan: Plan) -> tuple[str, str]:
    if plan.in_containers:
        return str(GRPC_PORT), str(REST_PORT)
    listen = plan.serving.listen
    return f"{listen.host}:{listen.grpc_port}", f"{listen.host}:{listen.rest_port}"


def _tls(plan: Plan) -> Iterator[str]:
    tls = plan.serving.tls
    if tls is None:
        return
    yield "        ssl_certificate server.pem;"
    yield "        ssl_certificate_key server.pem;"
    if tls.client_authority:
        yield "        ssl_client_certificate client-authority.pem;"
        yield "        ssl_verify_client on;"


def _grpc(plan: Plan) -> Iterator[str]:
    tls = plan.serving.tls
    yield "    server {"
    yield f"        listen {_listen(plan)[0]}{' ssl' if tls else ''} http2;"
    yield from _tls(plan)
    yield "        location / {"
    yield f"            grpc_pass {'grpcs' if tls else 'grpc'}://grpc;"
    if tls:
        yield "            grpc_ssl_verify on;"
        yield "            grpc_ssl_trusted_certificate authority.pem;"
        yield f"            grpc_ssl_name {tls.server_name};"
        if tls.client_authority:
            yield "            grpc_ssl_certificate server.pem;"
            yield "            grpc_ssl_certificate_key server.pem;"
    yield from _resilience("grpc")
    yield "        }"
    yield "        error_page 502 503 504 = @unavailable;"
    yield "        location @unavailable {"
    yield "            default_type application/grpc;"
    yield "            add_header grpc-status 14;"
    yield '            add_header grpc-message "no server answers";'
    yield "            return 204;"
    yield "        }\n    }\n"


def _rest(plan: Plan) -> Iterator[str]:
    yield "    server {"
    yield f"        listen {_listen(plan)[1]}{' ssl' if plan.serving.tls else ''};"
    yield from _tls(plan)
    yield "        proxy_http_version 1.1;"
    yield '        proxy_set_header Connection "";'
    yield "        proxy_set_header Host $host;"
    if plan.serving.canary:
        yield f"        location ~ ^/v1/models/{plan.model}:(?<method>classify|regress|predict)$ {{"
        yield f"            rewrite ^ /v1/models/{plan.model}/labels/$label:$method break;"
        yield "            proxy_pass http://rest;"
        yield from _resilience("proxy")
        yield "        }"
    yield "        location / {\n            proxy_pass http://rest;"
    yield from _resilience("proxy")
    yield "        }\n    }"


def _resilience(module: str) -> Iterator[str]:
    yield f"            {module}_connect_timeout 1s;"
    yield f"            {module}_read_timeout 60s;"
    yield f"            {module}_send_timeout 60s;"
    yield f"            {module}_next_upstream error timeout invalid_header http_502 http_503 non_idempotent;"
    yield f"            {module}_next_upstream_tries 3;"
