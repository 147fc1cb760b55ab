"""A small ladder that is converted once."""

import dataclasses

import pytest
import tf_keras

from components.tflite import convert
from schemas.tflite import VARIANTS
from tests.components.tflite import models


@dataclasses.dataclass(frozen=True)
class Ladder:
    folder: object
    saved_model: object
    record: object
    reference: object
    rows: dict

    def file(self, variant):
        return convert.file_of(self.folder, variant)


@pytest.fixture(scope="session")
def ladder(tmp_path_factory):
    """All variants of a small tabular model, with the SavedModel's answers on 1,000 other rows."""
    folder = tmp_path_factory.mktemp("ladder")
    saved_model = models.tabular(tf_keras, folder / "saved_model")
    rows = models.tabular_rows(1000, seed=1)
    with convert.opened(saved_model) as source:
        record = convert.export(source, VARIANTS, models.tabular_rows(200), folder / "export", ("as it is",))
        reference = source.function(**rows)["outputs"].numpy()
    return Ladder(folder / "export", saved_model, record, reference, rows)
