"""What Kubeflow's published OpenAPI says of a call, as its generated client holds it: paths, answers, fields and their types."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterator
from typing import Any

import kfp_server_api
from kfp_server_api import api as _api  # noqa: F401 - so that the modules of the services are there

_CALL = re.compile(r"call_api\(\s*'(?P<path>[^']+)',\s*'(?P<method>[A-Z]+)'.*?response_type=(?:'(?P<answer>[^']+)'|None)", re.DOTALL)  # fmt: skip
_BODIES = {"/runs": "V2beta1Run", "/recurringruns": "V2beta1RecurringRun", "/experiments": "V2beta1Experiment"}
_PLAIN: dict[str, tuple[type, ...]] = {
    "str": (str, int),  # protojson: an int64 is a string or a number
    "int": (int,),
    "bool": (bool,),
    "float": (int, float),
    "datetime": (str,),
    "object": (object,),
}


@functools.cache
def calls() -> dict[tuple[str, str], str]:
    """Method and path of every call, to the name of what is answered; "" for nothing."""
    found = {}
    for name, service in inspect.getmembers(kfp_server_api, inspect.isclass):
        if name.endswith("ServiceApi"):
            for match in _CALL.finditer(inspect.getsource(service)):
                found[match["method"], match["path"]] = match["answer"] or ""
    return found


def check_call(method: str, path: str, body: Any, answer: Any) -> None:
    """Holds a call against the contract: it is there, and what is sent and answered has its fields and their types."""
    template = next((one for verb, one in calls() if verb == method and _fits(one, path)), None)
    assert template is not None, f"the API has no {method} {path}"
    if body is not None:
        kind = _BODIES[path.removeprefix("/apis/v2beta1")]
        assert not list(faults(body, kind)), list(faults(body, kind))
    expected = calls()[method, template] or "object"
    assert not list(faults(answer, expected)), list(faults(answer, expected))


def _fits(template: str, path: str) -> bool:
    return re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", template), path) is not None


def faults(value: Any, kind: str, where: str = "") -> Iterator[str]:
    """What of a JSON value is not as its type says."""
    inner = re.fullmatch(r"(?:list\[(?P<each>.+)\]|dict\(str, (?P<value>.+)\))", kind)
    if value is None:
        return
    if kind in _PLAIN:
        if not isinstance(value, _PLAIN[kind]):
            yield f"{where}: {value!r} is no {kind}"
    elif inner and inner["each"]:
        for index, one in enumerate(value):
            yield from faults(one, inner["each"], f"{where}[{index}]")
    elif inner:
        for key, one in value.items():
            yield from faults(one, inner["value"], f"{where}.{key}")
    else:
        yield from _model_faults(value, getattr(kfp_server_api, kind), where)


def _model_faults(value: Any, model: Any, where: str) -> Iterator[str]:
    known = getattr(model, "allowable_values", None)
    if known is not None:
        if value not in known:
            yield f"{where}: {value!r} is none of {known}"
        return
    if not isinstance(value, dict):
        yield f"{where}: {value!r} is no {model.__name__}"
        return
    types = {model.attribute_map[name]: kind for name, kind in model.openapi_types.items()}
    for key, one in value.items():
        if key not in types:
            yield f"{where}.{key}: {model.__name__} has no such field"
        else:
            yield from faults(one, types[key], f"{where}.{key}")
