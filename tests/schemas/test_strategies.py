"""What cannot be trained is refused when the configuration is loaded, with the reason."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from pydantic import ValidationError

from schemas.config import TrainingConfig
from schemas.strategies import STRATEGIES, refused_pair

REFUSED = {("keras3", "tpu")}


MIRRORED = {"strategy": "multi_worker_mirrored", "workers": 2}


def pods(**accelerator: Any) -> dict[str, Any]:
    """The section `training.kubernetes`, with devices of this kind."""
    resources = {"resources": {"accelerator": accelerator}} if accelerator else {}
    return {"image": "registry/satisfice:1", "volume": {"claim": "satisfice"}, **resources}


@pytest.mark.parametrize(("backend", "strategy"), itertools.product(("tf_keras", "keras3"), STRATEGIES))
def test_the_matrix(backend: str, strategy: str) -> None:
    """What fails or is wrong without an error is refused with its reason; all else is taken."""
    refusal = refused_pair(backend, strategy)
    assert (refusal is not None) == ((backend, strategy) in REFUSED)
    if refusal:
        assert f"backend: {backend} with strategy: {strategy} " in refusal.problem
        with pytest.raises(ValidationError, match=f"backend: {backend} with strategy: {strategy}"):
            TrainingConfig.model_validate({"backend": backend, "strategy": strategy})
    else:
        TrainingConfig.model_validate({"backend": backend, "strategy": strategy})


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"workers": 2}, "workers: 2 is given, which strategy: auto does not read"),
        ({"workers": 2, "strategy": "mirrored"}, "expected strategy: multi_worker_mirrored or parameter_server"),
        ({"devices": 2, "strategy": "one_device"}, "devices: 2 is given"),
        ({"parameter_servers": 1, "strategy": "multi_worker_mirrored"}, "parameter_servers: 1 is given"),
        ({"communication": "ring", "strategy": "mirrored"}, "communication: ring is given"),
        ({"devices": 4, "strategy": "mirrored", "global_batch_size": 3}, "leaves some of 4 replicas without a row"),
        ({"jit_compile": True, "strategy": "mirrored"}, "jit_compile: true is not tried with strategy: mirrored"),
        ({"jit_compile": True, "strategy": "parameter_server"}, "jit_compile: true is not tried with strategy: param"),
        (
            {"deterministic": True, "strategy": "parameter_server"},
            "cannot be: workers update the weights in whatever order they come",
        ),
        ({"mixed_precision": "float16", "strategy": "central_storage"}, "float16 needs its loss scaled"),
        ({"mixed_precision": True, "strategy": "parameter_server"}, "expected mixed_precision: bfloat16 or false"),
        ({"checkpoint_every_steps": 5, "strategy": "parameter_server"}, "are each at a step of their own"),
        ({"cluster": "kubernetes", "strategy": "mirrored"}, "with strategy: mirrored, which trains in one process"),
        ({"cluster": "kubernetes"}, "with strategy: auto, which trains in one process"),
        (
            {"cluster": "kubernetes", "strategy": "multi_worker_mirrored"},
            "cluster: kubernetes with workers: 1 is a cluster of one member",
        ),
        ({"cluster": "kubernetes", "strategy": "parameter_server"}, "nothing says where"),
        (
            {"cluster": "kubernetes", "strategy": "parameter_server", "kubernetes": pods(count=2)},
            "count: 2 with strategy: parameter_server, whose workers train on one device each",
        ),
        (
            {"cluster": "kubernetes", "strategy": "parameter_server", "kubernetes": pods(type="google.com/tpu")},
            "which does not train on TPUs",
        ),
        (
            {**MIRRORED, "cluster": "kubernetes", "kubernetes": pods(), "communication": "nccl"},
            "communication: nccl is between GPUs, and no pod asks for one",
        ),
        ({"kubernetes": {**pods(), "env": {"TF_CONFIG": "{}"}}}, "sets TF_CONFIG, which each pod is given for itself"),
    ],
)
def test_keys_that_would_be_ignored_or_fail(keys: dict[str, Any], message: str) -> None:
    """Nobody believes in a key that nothing reads."""
    with pytest.raises(ValidationError, match=message):
        TrainingConfig.model_validate(keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"strategy": "multi_worker_mirrored", "workers": 2, "communication": "ring"},
        {"strategy": "parameter_server", "workers": 2, "parameter_servers": 1},
        {"strategy": "mirrored", "devices": 2, "global_batch_size": 2},
        {"strategy": "auto", "jit_compile": True, "backend": "keras3"},
        {"strategy": "mirrored", "backend": "keras3", "steps_per_execution": 5},
        {"strategy": "central_storage", "mixed_precision": "bfloat16", "checkpoint_every_steps": 5},
        {"strategy": "mirrored", "mixed_precision": "float16"},
    ],
)
def test_keys_that_go_together(keys: dict[str, Any]) -> None:
    """They are taken as they are."""
    assert TrainingConfig.model_validate(keys).strategy == keys["strategy"]
