"""TFDV's `validate_statistics` without what the package imports around it: Beam and TensorFlow, which take seconds."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from tensorflow_metadata.proto.v0 import anomalies_pb2

__all__ = ["validate_statistics"]

_PACKAGE = "tensorflow_data_validation"
_EXTENSION = f"{_PACKAGE}.pywrap.tensorflow_data_validation_extension"


def validate_statistics(statistics: Any, schema: Any) -> Any:
    """The anomalies of statistics against a schema: what `tfdv.validate_statistics(statistics, schema)` gives.

    Args:
        statistics: a `DatasetFeatureStatisticsList` proto of one data set.
        schema: a `Schema` proto.

    Returns:
        An `Anomalies` proto.
    """
    none = b""
    found = _extension().validation.ValidateFeatureStatistics(
        statistics.datasets[0].SerializeToString(),
        schema.SerializeToString(),
        none,  # environment
        none,  # statistics of the previous span
        none,  # of serving
        none,  # of the previous version
        none,  # features that are needed, and why
        none,  # severities of other kinds than the default
        False,  # without the differences to a schema that would fit
    )
    return anomalies_pb2.Anomalies.FromString(found)


def _extension() -> Any:
    """TFDV's compiled module, by its file and under its own name, so that the package takes it for its own later.

    Loaded twice under two names, it would corrupt memory.
    """
    if _EXTENSION in sys.modules:
        return sys.modules[_EXTENSION]
    package = importlib.util.find_spec(_PACKAGE)
    assert package is not None
    assert package.origin
    file = next(Path(package.origin).parent.glob(f"pywrap/{_EXTENSION.rpartition('.')[2]}*.so"), None)
    if _PACKAGE in sys.modules or file is None:
        return importlib.import_module(_EXTENSION)
    spec = importlib.util.spec_from_file_location(_EXTENSION, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[_EXTENSION] = module
    return module
