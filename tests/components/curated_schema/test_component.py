"""The curated schema enters the lineage as it stands in the file, and an edit of the file is seen."""

from pathlib import Path

from tfx.types import standard_artifacts

from components.curated_schema.component import CuratedSchema
from components.curated_schema.executor import Executor


def test_the_text_is_the_parameter(tmp_path: Path) -> None:
    """So that the cache key changes with the text, which TFX's own ImportSchemaGen does not see."""
    file = tmp_path / "schema.pbtxt"
    file.write_text('feature { name: "a" type: INT }')
    before = CuratedSchema(str(file)).exec_properties
    file.write_text('feature { name: "a" type: FLOAT }')
    assert before != CuratedSchema(str(file)).exec_properties


def test_it_is_written_as_it_stands(tmp_path: Path) -> None:
    """One file, `schema.pbtxt`, as readers of Schema artifacts expect."""
    output = standard_artifacts.Schema()
    output.uri = str(tmp_path)
    Executor().Do({}, {"schema": [output]}, {"schema_text": 'feature { name: "a" }'})
    assert [file.name for file in tmp_path.iterdir()] == ["schema.pbtxt"]
    assert (tmp_path / "schema.pbtxt").read_text() == 'feature { name: "a" }'
