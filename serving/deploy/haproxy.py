"""`haproxy.cfg`: gRPC and REST over several servers, without a failed request when one of them dies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from schemas.config import CanaryConfig
from serving.deploy.plan import GRPC_PORT, REST_PORT, Plan

__all__ = ["STATS_PORT", "Place", "haproxy_cfg"]

Place = Literal["beside", "cluster"]
"""Beside its servers, which it knows by name or address; or in a cluster, where it finds them by DNS."""

STATS_PORT = 8404
"""On which it gives its figures to Prometheus, in its container."""

_DRAWS = 10_000
_KEPT = 65_536
_SPARE = 2
"""Servers beyond the largest number of instances, for those of a roll-out."""


def haproxy_cfg(plan: Plan, place: Place = "beside") -> str:
    """The configuration of a load balancer.

    A request is kept until its answer begins, and goes to another server where a connection fails or ends without one.
    That is safe, since a prediction changes nothing; it holds for requests of up to 64 KB. Servers take turns: the one
    with the fewest connections would be the dead one, to which HAProxy would send the request again, a second later.
    """
    return "\n".join(_lines(plan, place))


def _lines(plan: Plan, place: Place) -> Iterator[str]:
    yield f"""\
# Rendered by `satisfice deploy render` for the model {plan.model}.
global
    log stdout format raw local0 notice
    default-path config
    maxconn 4096
    tune.bufsize {_KEPT}

defaults
    mode http
    log global
    balance roundrobin
    # also the pause before a request is sent again
    timeout connect 300ms
    timeout client 60s
    timeout server 60s
    timeout queue 5s
    timeout http-request 10s
    timeout http-keep-alive 60s
    option http-buffer-request
    option redispatch 1
    retries 3
    retry-on conn-failure empty-response junk-response 502 503
"""
    yield from _resolvers(plan, place)
    yield from _frontends(plan, place)
    yield from _backend(plan, place, "grpc")
    yield from _backend(plan, place, "rest")


def _resolvers(plan: Plan, place: Place) -> Iterator[str]:
    if place == "beside" and not plan.in_containers:
        return
    nameserver = "parse-resolv-conf" if place == "cluster" else "nameserver docker 127.0.0.11:53"
    yield f"resolvers names\n    {nameserver}\n    hold valid 5s\n    hold other 5s\n    accepted_payload_size 8192\n"


def _frontends(plan: Plan, place: Place) -> Iterator[str]:
    tls = plan.serving.tls
    asks = " verify required ca-file client-authority.pem" if tls and tls.client_authority else ""
    secure = f" ssl crt server.pem{asks}" if tls else ""
    grpc, rest, stats = _binds(plan, place)
    yield "frontend grpc"
    yield f"    bind {grpc}{f'{secure} alpn h2' if tls else ' proto h2'}"
    yield "    default_backend grpc\n"
    yield "frontend rest"
    yield f"    bind {rest}{f'{secure} alpn h2,http/1.1' if tls else ''}"
    if plan.serving.canary:
        yield from _split(plan.model, plan.serving.canary)
    yield "    default_backend rest\n"
    yield "frontend stats"
    yield f"    bind {stats}"
    yield "    http-request use-service prometheus-exporter if { path /metrics }"
    yield "    http-request return status 404\n"


def _binds(plan: Plan, place: Place) -> tuple[str, str, str]:
    if place == "cluster" or plan.in_containers:
        return f"*:{GRPC_PORT}", f"*:{REST_PORT}", f"*:{STATS_PORT}"
    listen = plan.serving.listen
    return tuple(f"{listen.host}:{port}" for port in (listen.grpc_port, listen.rest_port, listen.stats_port))  # type: ignore[return-value]


def _split(model: str, canary: CanaryConfig) -> Iterator[str]:
    limit = round(canary.share * _DRAWS)
    yield f"    # {canary.share:.4g} of the requests that name no version go to {canary.label}, the rest to {canary.stable}"
    yield f"    http-request set-var(txn.draw) rand({_DRAWS})"
    if canary.header:
        found = f"{{ req.hdr({canary.header}) -m found }}"
        yield f"    http-request set-var(txn.draw) req.hdr({canary.header}),xxh32,mod({_DRAWS}) if {found}"
    for label, condition in ((canary.label, f" if {{ var(txn.draw) -m int lt {limit} }}"), (canary.stable, "")):
        target = rf"/v1/models/{model}/labels/{label}:\1"
        yield rf"    http-request replace-path ^/v1/models/{model}:(classify|regress|predict)$ {target}{condition}"


def _backend(plan: Plan, place: Place, face: Literal["grpc", "rest"]) -> Iterator[str]:
    yield f"backend {face}"
    yield "    option httpchk"
    yield f"    http-check send meth GET uri /v1/models/{plan.model}/metadata ver HTTP/1.1 hdr Host {plan.resource}"
    yield "    http-check expect status 200"
    yield "    default-server check inter 1s fastinter 200ms downinter 500ms fall 2 rise 1 on-marked-down shutdown-sessions"
    yield "    default-server observe layer4 error-limit 1 on-error sudden-death"
    if place == "cluster":
        yield _template(plan, face)
    else:
        for server in plan.servers:
            port = server.rest.rpartition(":")[2]
            check = f" addr {_host(server.rest)} port {port} check-proto h1" if face == "grpc" else ""
            address = server.grpc if face == "grpc" else server.rest
            resolved = " resolvers names init-addr last,libc,none" if plan.in_containers else ""
            # A name is looked up again by `resolvers`; an `addr` of its own would hold on to the first answer.
            check = check if not plan.in_containers else check.replace(f" addr {_host(server.rest)}", "")
            yield f"    server {server.name} {address}{_speaks(plan, face)}{check}{resolved}"
    yield ""


def _template(plan: Plan, face: Literal["grpc", "rest"]) -> str:
    autoscale = plan.serving.autoscale
    most = (autoscale.max_instances if autoscale else plan.serving.instances) + _SPARE
    port = GRPC_PORT if face == "grpc" else REST_PORT
    name = f"{plan.resource}-servers.{plan.serving.kubernetes.namespace}.svc.cluster.local"
    check = f" port {REST_PORT} check-proto h1" if face == "grpc" else ""
    speaks = _speaks(plan, face)
    return f"    server-template {plan.resource}- {most} {name}:{port}{speaks}{check} resolvers names init-addr none"


def _speaks(plan: Plan, face: Literal["grpc", "rest"]) -> str:
    """How a server is spoken to: gRPC is HTTP/2, with TLS where it has that; REST is HTTP/1.1 in the clear."""
    if face == "rest":
        return ""
    tls = plan.serving.tls
    if tls is None:
        return " proto h2"
    shows = " crt server.pem" if tls.client_authority else ""
    return f" ssl alpn h2 verify required ca-file authority.pem verifyhost {tls.server_name}{shows} no-check-ssl"


def _host(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")
