"""A process waits for its turn where somebody gives turns, and nowhere else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from components import turn


@pytest.fixture(autouse=True)
def _nobody_gives_turns() -> Iterator[None]:
    yield
    turn.given_by(None)


def test_it_is_always_ones_turn_where_nobody_gives_turns() -> None:
    """As under TFX's own runner."""
    turn.given_by(None)
    turn.wait()


def test_one_waits_until_the_file_is_there(tmp_path: Path) -> None:
    """And no longer."""
    file = tmp_path / "a.turn"
    turn.given_by(file)
    waiting = threading.Thread(target=turn.wait, daemon=True)
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    file.touch()
    waiting.join(60)
    assert not waiting.is_alive()
