"""One process of a training cluster: `python -m components.trainer.member WORK_FILE`."""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from components import progress
from components.process import die_with_parent

__all__ = ["as_work", "main"]

_PASSES = (
    "UnavailableError",
    "AbortedError",
    "CancelledError",
    "DeadlineExceededError",
    "InternalError",
    "UnknownError",
)
"""What TensorFlow raises in a member when another one is gone, or when somebody took its port in the meantime."""

_FIELDS = (
    "train_files",
    "eval_files",
    "transform_output",
    "schema_path",
    "serving_model_dir",
    "model_run_dir",
    "base_model",
    "custom_config",
)


def as_work(fn_args: Any, path: list[str]) -> dict[str, Any]:
    """What members are told: JSON values.

    Args:
        fn_args: as `run_fn` takes them.
        path: of imports, where the user's module may lie.
    """
    return {"fn_args": {name: getattr(fn_args, name) for name in _FIELDS}, "path": path}


def main(file: Path) -> int:
    """Trains as a member of the cluster that TF_CONFIG names; the exit status."""
    work = json.loads(file.read_text(encoding="utf-8"))
    die_with_parent(work["parent"])
    sys.path += [entry for entry in work["path"] if entry not in sys.path]
    if work["channel"]:
        progress.report_to(Path(work["channel"]))
    try:
        if work["plan"] is None:  # made where it trains: the Trainer node's machine is another one
            from components.trainer.run import run_fn

            run_fn(SimpleNamespace(**work["fn_args"], hyperparameters=None))  # they stand in the configuration by now
            return 0
        from components.trainer.strategy import Plan, find_machine

        plan, member = Plan(**work["plan"]), find_machine().member
        if member and member.serves:
            from components.trainer.scope import serve

            serve(member, plan)
        else:
            from components.trainer.run import train

            train(SimpleNamespace(**work["fn_args"]), plan)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the parent must hear of it
        traceback.print_exc()
        Path(work["failure"]).write_text(json.dumps(_failure(error)), encoding="utf-8")
        return 1
    finally:
        progress.end()
    return 0


def _failure(error: BaseException) -> dict[str, Any]:
    from schemas.errors import find_cause, shorten

    ours = find_cause(error)
    names = {kind.__name__ for kind in type(error).__mro__}
    return {
        "error": ours.as_dict() if ours else None,
        "cause": shorten(f"{type(error).__name__}: {' '.join(str(error).split())}", 400),
        "retry": ours is None and bool(names & set(_PASSES)),
    }


if __name__ == "__main__":
    status = main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # TensorFlow has been seen to crash in the interpreter's clean-up, after all was done
