"""TensorFlow as a model server has it: graph, session, kernels; without its Python API and Keras.

Importing `tensorflow` whole takes four times as long and half as much memory again, which every measuring process would
pay. Import this module before anything that imports TensorFlow, and in a process of its own only: the package
`tensorflow` is left without what its own `__init__` gives.
"""

from __future__ import annotations

import importlib.util
import sys
import types

__all__ = ["Graph", "Session", "dtypes", "load"]


def _bare_package() -> None:
    """Stands in for the package, so that its modules can be imported one by one."""
    if "tensorflow" in sys.modules:
        return
    spec = importlib.util.find_spec("tensorflow")
    assert spec is not None, "TensorFlow is not installed"
    package = types.ModuleType("tensorflow")
    package.__path__ = list(spec.submodule_search_locations or [])
    package.__spec__ = spec
    sys.modules["tensorflow"] = package


_bare_package()

from tensorflow.python.client.session import Session  # noqa: E402 - the package has to stand first
from tensorflow.python.framework import dtypes  # noqa: E402
from tensorflow.python.framework.ops import Graph  # noqa: E402
from tensorflow.python.saved_model.loader_impl import load  # noqa: E402
