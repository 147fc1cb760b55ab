"""The Profiler held against itself, a planted delay and an independent timing loop; into RESULTS.md.

    python -m bench.profiler [--comparisons 20]

A model is compared with a copy of itself and with one that a planted loop makes 30 % slower, each many times, and the Gate
judges. The plain loop and the Profiler take turns.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bench import ours
from bench.planted import plant
from bench.process import REPOSITORY
from bench.results import machine as where_and_when
from bench.results import table, write_section
from components.gate.decide import Champion, decide
from components.profiler.latency import Plan, time_in_turns
from components.profiler.machine import load_average, machine
from components.profiler.measure import Limits, Measured, Needs, Trained, profile
from components.profiler.rows import Rows, read_rows
from components.trainer.reference import REFERENCE_SPLIT, read_reference
from schemas.config import GatesConfig
from schemas.decision import TRAINING_FILE, Figure, Figures
from serving import payload

__all__ = ["main"]

WORK = REPOSITORY / "bench" / "work" / "profiler"
SLOWER = 1.3
_ALIKE_LIMIT = 1.2
_SLOWER_LIMIT = 1.15
_LOOP_CALLS = 2000
_METRIC = "latency_p50_ms"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure the Profiler.")
    parser.add_argument("--comparisons", type=int, default=20, help="of each kind")
    parser.add_argument("--turns", type=int, default=40, help="of the Profiler's loop and the plain one")
    arguments = parser.parse_args()
    bench = _Bench.prepared()
    sections = [
        f"## The Profiler\n\n`python -m bench.profiler --comparisons {arguments.comparisons}`; {where_and_when()}; "
        f"load average {load_average():.1f} at the beginning. {machine()}.",
        bench.cost(),
        bench.agreement(arguments.turns),
        bench.comparisons(arguments.comparisons),
    ]
    text = "\n\n".join(sections)
    write_section("profiler", text)
    print(text)


class _Bench:
    """The taxi model of one run, a copy of it under another name, and the rows."""

    def __init__(self, root: Path, served: Path) -> None:
        self.model = served
        run = _newest(root / "Trainer" / "model_run")
        examples = _newest(root / "ExampleGen" / "examples")
        reference = read_reference(run)
        assert reference is not None
        names = json.loads((run / TRAINING_FILE).read_text(encoding="utf-8"))["serving_features"]
        self.columns = {name: column for column, name in names.items()}
        self.requests = read_rows(examples, "eval", 2048)
        self.trained = Trained(read_rows(examples, REFERENCE_SPLIT, reference.rows), reference)

    @staticmethod
    def prepared() -> _Bench:
        shutil.rmtree(WORK, ignore_errors=True)
        found = ours.measure(REPOSITORY / "data" / "taxi" / "data.csv", WORK)
        return _Bench(WORK / "pipelines" / "taxi", Path(found["model"]))

    def profile(self, candidate: Path, champion: Path | None, seed: int, trained: Trained | None = None) -> Figures:
        """Figures of two payloads; the champion's digest is made another's, for the Gate would not compare equal bytes."""
        served = Measured(str(champion), "champion") if champion else None
        return profile(
            Measured(str(candidate), payload.digest(candidate)),
            served,
            self.requests,
            trained or Trained(Rows({}, {}, ()), None, "left out"),
            self.columns,
            Needs(),
            machine(),
            Limits(seed=seed),
        )

    def cost(self) -> str:
        """What the whole of it takes."""
        rows = []
        for title, champion in (("without a champion", None), ("with one", self.model)):
            seconds = []
            for seed in range(3):
                begun = time.monotonic()
                self.profile(self.model, champion, seed, self.trained)
                seconds.append(time.monotonic() - begun)
            rows.append([title, f"{min(seconds):.1f} / {median(seconds):.1f} / {max(seconds):.1f}"])
        head = "The whole cost, wall seconds, minimum / median / maximum of three:"
        return head + "\n\n" + table(["", "seconds"], rows)

    def agreement(self, turns: int) -> str:
        """The Profiler's p50 and that of a plain loop, in turns of a tenth of a second, in one process."""
        import tensorflow as tf

        from components.profiler.served import ServedModel

        model = ServedModel(str(self.model))
        tensors, call = model.requests(self.requests, self.columns), model.caller()[1]
        rows = []
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            plain = _Plain(tf, session, self.model)
            for size in (1, 64):
                requests = [[tensor[start : start + size] for tensor in tensors] for start in range(0, 32 * size, size)]
                calls = [lambda request=request: call(*request) for request in requests]
                cells = [plain.request(self.requests, self.columns, start, size) for start in range(0, 32 * size, size)]
                timed: list[Any] = []
                looped: list[float] = []
                for turn in range(turns):
                    timed.append(time_in_turns({"it": calls}, Plan(budget_s=0.1, precision=0, seed=turn))["it"].ravel())
                    looped += plain.seconds(cells, 0.1)
                ours_ms, plain_ms = 1e3 * float(np.median(np.concatenate(timed))), 1e3 * float(np.median(looped))
                rows.append([f"p50, batch {size}", f"{ours_ms:.3f}", f"{plain_ms:.3f}", f"{ours_ms / plain_ms:.2f}"])
        head = f"The Profiler's loop and a plain one with TensorFlow's public API, {turns} turns of 0.1 s each, ms:"
        return head + "\n\n" + table(["", "Profiler", "plain loop", "ratio"], rows)

    def comparisons(self, count: int) -> str:
        """What the Gate says of the model against itself, and of a slower one against it."""
        same = Path(shutil.copytree(self.model, WORK / "same"))
        turns, slow = self._slower()
        alike = [self._verdict(same, seed, _ALIKE_LIMIT) for seed in range(count)]
        slower = [self._verdict(slow, 1000 + seed, _SLOWER_LIMIT) for seed in range(count)]
        rows = [
            [title, f"{limit}", _counted(found), _spread([ratio for _, ratio in found])]
            for title, limit, found in (
                ("itself", _ALIKE_LIMIT, alike),
                (f"made {SLOWER - 1:.0%} slower (a loop of {turns} matrix products)", _SLOWER_LIMIT, slower),
            )
        ]
        head = f"`{_METRIC} max_ratio_to_champion`, batch 1, {count} comparisons each; the ratio as minimum / median / maximum:"
        return head + "\n\n" + table(["the model against", "limit", "verdicts", "ratio"], rows)

    def _slower(self) -> tuple[int, Path]:
        """A model that is slower by the planted share, found by measuring two delays."""
        known = {0: 1.0}
        turns = 20
        for attempt in range(3):
            target = plant(self.model, WORK / f"slow-{attempt}", delay=turns)
            known[turns] = median(self._ratio(self.profile(target, self.model, seed)) for seed in range(3))
            print("calibrating", turns, known[turns], flush=True)
            if abs(known[turns] - SLOWER) <= 0.02:
                break
            slope, base = np.polyfit(list(known), list(known.values()), 1)
            turns = max(1, round((SLOWER - base) / slope))
        best = min((one for one in known if one), key=lambda one: abs(known[one] - SLOWER))
        return best, plant(self.model, WORK / "slow", delay=best)

    def _verdict(self, candidate: Path, seed: int, limit: float) -> tuple[str, float]:
        figures = self.profile(candidate, self.model, seed)
        gate = {"metric": _METRIC, "batch_size": 1, "max_ratio_to_champion": limit}
        gates = GatesConfig.model_validate_json(json.dumps({"satisfy": [gate]}))
        served = Champion(figures.champion, 1, figures.of(figures.champion))
        decision = decide(gates, figures.candidate, figures.of(figures.candidate), served)
        found = decision.gates[0].verdict, self._ratio(figures)
        print(seed, *found, flush=True)
        return found

    @staticmethod
    def _ratio(figures: Figures) -> float:
        ratio = _figure(figures, 1).ratio_to_champion
        assert ratio is not None, figures.notes
        return ratio


class _Plain:
    """Load, call, look at the clock, as anyone would time it."""

    def __init__(self, tf: Any, session: Any, model: Path) -> None:
        signature = tf.compat.v1.saved_model.load(session, ["serve"], str(model)).signature_def["serving_default"]
        self._names = sorted(signature.inputs)
        feeds = [signature.inputs[name].name for name in self._names]
        self._call = session.make_callable(signature.outputs["outputs"].name, feed_list=feeds)

    def request(self, rows: Rows, columns: Mapping[str, str], start: int, size: int) -> list[Any]:
        return [_cells(rows, columns[name], start, size) for name in self._names]

    def seconds(self, requests: Sequence[list[Any]], budget_s: float) -> list[float]:
        end = time.perf_counter() + budget_s
        for request in requests:
            self._call(*request)
        seconds = []
        while time.perf_counter() < end:
            request = requests[len(seconds) % len(requests)]
            begun = time.perf_counter()
            self._call(*request)
            seconds.append(time.perf_counter() - begun)
        return seconds


def _cells(rows: Rows, column: str, start: int, size: int) -> Any:
    chosen = slice(start, start + size)
    values, present = rows.values[column][chosen], rows.present[column][chosen]
    if values.dtype.kind == "S":
        return np.where(present, values, b"").astype(object)
    return np.where(present, values, np.nan if values.dtype.kind == "f" else np.iinfo(np.int64).min).astype(
        values.dtype
    )


def _figure(figures: Figures, size: int) -> Figure:
    return next(one for one in figures.of(figures.candidate) if one.metric == _METRIC and one.batch_size == size)


def _counted(found: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{count} {verdict}" for verdict, count in Counter(verdict for verdict, _ in found).most_common())


def _spread(ratios: Sequence[float]) -> str:
    return f"{min(ratios):.3f} / {median(ratios):.3f} / {max(ratios):.3f}"


def _newest(folder: Path) -> Path:
    return max(folder.iterdir(), key=lambda one: int(one.name))


if __name__ == "__main__":
    main()
