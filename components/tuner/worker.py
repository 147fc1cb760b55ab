"""One process of the search: `python -m components.tuner.worker WORK_FILE`. See `components.tuner.crew` for what it says."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.process import die_with_parent

__all__ = ["main"]


class _StoppedError(Exception):
    """Whoever hands the trials out does not want this one trained."""


class _Line:
    """The pipes to whoever hands the trials out; what TensorFlow prints goes to the log."""

    def __init__(self) -> None:
        self._out = os.dup(1)
        os.set_inheritable(self._out, False)
        os.dup2(2, 1)

    def say(self, message: Mapping[str, Any]) -> None:
        rest = memoryview(json.dumps(message).encode() + b"\n")
        while rest:
            rest = rest[os.write(self._out, rest) :]

    def hear(self) -> dict[str, Any] | None:
        """The next line; None where nobody is there any more."""
        line = sys.stdin.readline()
        if not line:
            return None
        message: dict[str, Any] = json.loads(line)
        return message

    def ask(self, question: Mapping[str, Any]) -> bool:
        """Whether to go on."""
        self.say(question)
        answer = self.hear()
        if answer is None:
            raise SystemExit(0)
        return bool(answer["go_on"])


class _Watch:
    """Asks of each model, and after each of its epochs, whether to go on."""

    def __init__(self, line: _Line) -> None:
        self._line = line

    def built(self, model: Any) -> None:
        shapes = [tuple(weight.shape) for weight in model.get_weights()]
        counts = [_count(shape) for shape in shapes]
        known = {
            "parameters": sum(counts),
            "bytes": sum(int(weight.nbytes) for weight in model.get_weights()),
            "matrices": sum(count for count, shape in zip(counts, shapes, strict=True) if len(shape) > 1),
        }
        if not self._line.ask({"built": known}):
            raise _StoppedError

    def epoch(self, number: int, figures: Mapping[str, float]) -> bool:
        return self._line.ask({"epoch": {"epochs": number + 1, "figures": dict(figures)}})


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= int(size)
    return count


def main(file: Path) -> int:
    """Trains what it is told until nobody tells it anything; the exit status."""
    work = json.loads(file.read_text(encoding="utf-8"))
    die_with_parent(work["parent"])
    line = _Line()
    sys.path += [entry for entry in work["path"] if entry not in sys.path]
    try:
        from components.tuner.trainee import Trainee

        trainee = Trainee.of(work)
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent must hear of it
        traceback.print_exc()
        line.say({"fatal": _as_fatal(error)})
        return 1
    line.say({"ready": trainee.about})
    while (told := line.hear()) is not None:
        _do(told, trainee, line)
    return 0


def _do(told: Mapping[str, Any], trainee: Any, line: _Line) -> None:
    from schemas.config import TFLiteConfig
    from schemas.errors import DataError, TuningError

    began = time.monotonic()
    try:
        if told["do"] == "export":
            tflite = TFLiteConfig.model_validate_json(told["tflite"]) if told["tflite"] else None
            line.say({"done": trainee.export(told["values"], Path(told["folder"]), tflite, told["limit_mb"])})
            return
        found = trainee.train(told["values"], _Watch(line))
        line.say({"done": {**found, "seconds": round(time.monotonic() - began, 3)}})
    except _StoppedError:
        line.say({"done": {"stopped": True, "seconds": round(time.monotonic() - began, 3)}})
    except (DataError, TuningError) as error:
        traceback.print_exc()
        line.say({"fatal": error.as_dict()})
    except Exception as error:  # noqa: BLE001 - what a set of values leads to is its own
        traceback.print_exc()
        line.say({"failed": _in_words(error), "seconds": round(time.monotonic() - began, 3)})


def _as_fatal(error: BaseException) -> dict[str, object]:
    from schemas.errors import TuningError, find_cause

    ours = find_cause(error)
    return (ours or TuningError("a worker of the search", f"cannot begin: {_in_words(error)}")).as_dict()


def _in_words(error: BaseException) -> str:
    from schemas.errors import shorten

    return shorten(f"{type(error).__name__}: {' '.join(str(error).split())}", 400)


if __name__ == "__main__":
    status = main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # TensorFlow has been seen to crash in the interpreter's clean-up, after all was done
