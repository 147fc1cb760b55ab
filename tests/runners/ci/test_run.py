"""What a run for a pull request does otherwise than the run that it stands for."""

from __future__ import annotations

from pathlib import Path

import pytest

from runners.ci.run import _cut, _Place
from schemas.load import load_config
from tests.workbench import REPOSITORY


@pytest.mark.parametrize(
    ("trials", "given", "told"),
    [
        (20, ["training.tune.trials=3"], "; the search for hyperparameters was cut to 3 of 20 trials"),
        (2, ["training.tune.trials=2"], ""),
        (0, [], ""),
    ],
)
def test_a_search_is_cut_short_and_that_is_said(tmp_path: Path, trials: int, given: list[str], told: str) -> None:
    """Three trials show that it works; where there is no search, none is begun."""
    file = REPOSITORY / "satisfice.yaml"
    overrides = (f"training.tune.trials={trials}",)
    config = load_config(file, overrides).config
    options = _Place(tmp_path, config, overrides)._options(file)
    last = [word for word in options if word.startswith("training.tune.trials=")][1:]
    assert last == given
    assert _cut(config) == told
