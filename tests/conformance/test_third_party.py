"""A client that nobody here wrote: Intel's `ovmsclient`, in a process of its own, for it brings its own protos."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest

ASK = """
import json, sys
import numpy as np
import ovmsclient

kind, address = sys.argv[1:]
client = ovmsclient.make_grpc_client(address) if kind == "grpc" else ovmsclient.make_http_client(address)
found = {
    "status": client.get_model_status("half", model_version=1),
    "inputs": client.get_model_metadata("half", model_version=1)["inputs"] if kind == "grpc" else None,
    "predictions": client.predict({"x": np.array([1, 2], np.float32)}, "half", model_version=1).tolist(),
}
try:
    client.predict({"x": np.array(["a"])}, "half", model_version=2)
except Exception as error:
    found["refused"] = type(error).__name__
assert "tensorflow" not in sys.modules
print(json.dumps(found))
"""


@pytest.mark.parametrize("kind", ["grpc", "http"])
def test_ovmsclient(target, kind):
    """Status, metadata, predictions and an error, over both interfaces.

    Its "newest" is the version 0 of OpenVINO's server, which TF Serving takes for a version: one is named here. Over
    HTTP it reads metadata as OpenVINO's server spells it (`signatureDef`), not as TF Serving does (`signature_def`).
    """
    if importlib.util.find_spec("ovmsclient") is None:
        pytest.skip("ovmsclient is not installed: `make setup` installs what the lock names")
    address = target.grpc_address if kind == "grpc" else target.rest_address
    done = subprocess.run([sys.executable, "-c", ASK, kind, address], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {version: one["state"] for version, one in found["status"].items()} == {"1": "AVAILABLE"}
    assert found["inputs"] == ({"x": {"shape": [-1], "dtype": "DT_FLOAT"}} if kind == "grpc" else None)
    assert found["predictions"] == [2.5, 3.0]
    assert found["refused"] == "InvalidInputError"
