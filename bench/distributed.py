"""Training under each strategy beside a bare `fit` in a script under the same one, or a bare loop: examples a second, into
RESULTS.md.

    python -m bench.distributed [--cases "one_device; mirrored over 2 logical CPUs"] [--models taxi] [--turns 3]

What is measured of some of them alone is printed, and not recorded.

Both train the taxi model and one of 920,000 parameters on the same made rows, in the same processes, turn about. Ours reads
its rows as the Trainer does, reports its progress, writes the curve for TensorBoard and keeps its state after each epoch;
the script does none of that.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["TF_USE_LEGACY_KERAS"] = "1"

import argparse
import contextlib
import dataclasses
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.process import REPOSITORY
from bench.results import machine, table, write_section

__all__ = ["CASES", "MODELS", "Case", "main", "section"]

CPUS = 2


@dataclasses.dataclass(frozen=True)
class Case:
    """A strategy, as `training` of the configuration says it.

    Attributes:
        training: keys of the section.
        threads: of each process; 0 leaves it to TensorFlow.
        needs_gpu: whether it is left out where there is none.
    """

    training: dict[str, Any]
    threads: int = 0
    needs_gpu: bool = False


CASES: dict[str, Case] = {
    "one_device": Case({"strategy": "one_device"}),
    "mirrored over 2 logical CPUs": Case({"strategy": "mirrored", "devices": 2}),
    "central_storage over 2 logical CPUs": Case({"strategy": "central_storage", "devices": 2}),
    "multi_worker_mirrored, 1 worker": Case({"strategy": "multi_worker_mirrored", "workers": 1}, threads=1),
    "multi_worker_mirrored, 2 workers": Case({"strategy": "multi_worker_mirrored", "workers": 2}, threads=1),
    "parameter_server, 1 server, 2 workers": Case(
        {"strategy": "parameter_server", "parameter_servers": 1, "workers": 2}, threads=1
    ),
    "multi_worker_mirrored, 2 workers, Keras 3": Case(
        {"backend": "keras3", "strategy": "multi_worker_mirrored", "workers": 2}, threads=1
    ),
    "parameter_server, 1 server, 2 workers, Keras 3": Case(
        {"backend": "keras3", "strategy": "parameter_server", "parameter_servers": 1, "workers": 2}, threads=1
    ),
    "one_device, Keras 3": Case({"backend": "keras3", "strategy": "one_device"}),
    "mirrored over 2 logical CPUs, Keras 3": Case({"backend": "keras3", "strategy": "mirrored", "devices": 2}),
    "mirrored over GPUs": Case({"strategy": "mirrored"}, needs_gpu=True),
    "mirrored over GPUs, float16": Case({"strategy": "mirrored", "mixed_precision": "float16"}, needs_gpu=True),
}


@dataclasses.dataclass(frozen=True)
class Model:
    """What is trained.

    Attributes:
        hidden_units: of the taxi pipeline's network.
        rows: of an epoch.
        batch: rows of a step.
    """

    hidden_units: tuple[int, ...]
    rows: int
    batch: int = 1024


MODELS = {"taxi": Model((64, 32), 102_400), "920k parameters": Model((929, 929), 10_240)}
EPOCHS = 4
"""The first one, which traces the step, does not count."""
_CARDINALITIES = {"fare": 32, "hour": 24, "weekday": 7, "month": 12, "pickup": 78, "dropoff": 78, "pay": 8, "firm": 40}
_AMOUNTS = ("log_fare", "log_miles", "log_seconds")


def main() -> None:
    """Runs the cases that are asked for, and rewrites the section; or is a process of one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", default="; ".join(CASES), help="separated by semicolons")
    parser.add_argument("--models", default="; ".join(MODELS), help="separated by semicolons")
    parser.add_argument("--turns", type=int, default=3, help="of both, for each case and model")
    parser.add_argument("--member", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.member:
        _member(CASES[arguments.member], arguments.models.split(";"), arguments.turns)
        return
    asked = [name.strip() for name in arguments.cases.split(";")]
    models = [name.strip() for name in arguments.models.split(";")]
    found = {name: _run(name, models, arguments.turns) for name in asked}
    if models != list(MODELS) or asked != list(CASES):
        print(section(found, machine(), "not recorded: not all cases and models"))
        return
    command = f"python -m bench.distributed --turns {arguments.turns}"
    text = section(found, machine(), command)
    write_section("distributed", text)
    print(text)


# --- a case -----------------------------------------------------------------------------------------------------------

_LIMIT_S = 180.0
"""For a turn of a case, and once more for its start; one that takes longer hangs."""


def _run(name: str, models: Sequence[str], turns: int) -> list[dict[str, Any]] | None:
    """What the first process of a case measured; None where the machine lacks what it needs.

    Raises:
        RuntimeError: a process fails or hangs.
    """
    case = CASES[name]
    if case.needs_gpu and not list(Path("/dev").glob("nvidia[0-9]*")):
        return None
    command = [sys.executable, "-m", "bench.distributed", "--member", name, "--turns", str(turns)]
    command += ["--models", ";".join(models)]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(_started(command, told, Path(folder, str(index))))
            for index, told in enumerate(_environments(case))
        ]
        limit = _LIMIT_S * (turns + 1)
        deadline = time.monotonic() + limit
        while processes[0].poll() is None and not any(process.poll() for process in processes):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{name}: hangs after {limit:.0f} s:\n{_last_words(Path(folder))}")
            time.sleep(0.1)
        if any(process.poll() for process in processes):
            raise RuntimeError(f"{name}: a process failed:\n{_last_words(Path(folder))}")
        result: list[dict[str, Any]] = json.loads(Path(folder, "0.out").read_text().splitlines()[-1])
    return result


@contextlib.contextmanager
def _started(command: list[str], told: dict[str, str], file: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that writes into files, since nobody reads what several of them say; it is ended with the block."""
    with file.with_suffix(".out").open("wb") as out, file.with_suffix(".err").open("wb") as err:
        process = subprocess.Popen(command, cwd=REPOSITORY, env={**os.environ, **told}, stdout=out, stderr=err)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _last_words(folder: Path) -> str:
    return "\n".join(f"--- process {file.stem}\n{file.read_text()[-1500:]}" for file in sorted(folder.glob("*.err")))


def _environments(case: Case) -> list[dict[str, str]]:
    """TF_CONFIG of each process of a case, the one that measures first."""
    workers, servers = int(case.training.get("workers", 1)), int(case.training.get("parameter_servers", 0))
    roles = {"chief": 1, "ps": servers, "worker": workers} if servers else {"worker": workers}
    if case.training["strategy"] not in ("multi_worker_mirrored", "parameter_server"):
        return [{}]
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(sum(roles.values()))]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        ports = iter([one.getsockname()[1] for one in sockets])
    cluster = {role: [f"127.0.0.1:{next(ports)}" for _ in range(count)] for role, count in roles.items()}
    tasks = [{"type": role, "index": index} for role, count in roles.items() for index in range(count)]
    return [{"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})} for task in tasks]


# --- a process of it --------------------------------------------------------------------------------------------------


def _member(case: Case, models: Sequence[str], turns: int) -> None:
    """Trains both ways, turn about; prints a JSON line."""
    from components.trainer.scope import machine_of_tensorflow, prepare, serve
    from components.trainer.strategy import make_plan
    from schemas.config import TrainingConfig

    training = TrainingConfig.model_validate({**case.training, "epochs": EPOCHS, "global_batch_size": 1024})
    here = dataclasses.replace(machine_of_tensorflow(), cpus=CPUS)
    plan = make_plan(training, dataclasses.replace(here, member=None))
    plan = dataclasses.replace(plan, threads=case.threads)
    if here.member is not None and here.member.serves:
        serve(here.member, plan)
        return
    scope = prepare(plan, training)
    measured = []
    for turn in range(turns):
        for name in models:
            model = MODELS[name]
            ways = [("ours", _ours), ("bare", _bare_loop if _has_no_fit(training) else _bare)]
            for way, train in ways if turn % 2 == 0 else reversed(ways):
                measured.append({"model": name, "way": way, **train(model, training, plan, scope)})
    print(json.dumps(measured))


def _has_no_fit(training: Any) -> bool:
    """Whether Keras' own `fit` does not train under the strategy."""
    return training.backend == "keras3" and training.strategy not in ("one_device", "mirrored")


def _features() -> dict[str, Any]:
    from schemas.user_model import Feature

    amounts = {name: Feature(name, "float32", (1,)) for name in _AMOUNTS}
    return {**amounts, **{name: Feature(name, "int64", (1,), size) for name, size in _CARDINALITIES.items()}}


def _columns(rows: int) -> dict[str, Any]:
    import numpy as np

    random = np.random.default_rng(0)
    columns = {name: random.normal(size=(rows, 1)).astype("float32") for name in _AMOUNTS}
    columns |= {name: random.integers(0, size, (rows, 1)) for name, size in _CARDINALITIES.items()}
    columns["label"] = (columns["log_fare"] + columns["hour"] / 24 > 0.5).astype("int64")
    return columns


def _build(model: Model) -> Any:
    from pipeline.models.taxi import build_model

    return lambda keras, features, _: build_model(keras, features, {"hidden_units": model.hidden_units})


def _ours(model: Model, training: Any, plan: Any, scope: Any) -> dict[str, Any]:
    import tensorflow as tf

    from components.trainer.blocks import Blocks
    from components.trainer.fit import Course, fit, seeded
    from components.trainer.inputs import Layout, block_rows, dataset
    from components.trainer.resume import Resume, State

    seeded(training)
    columns, features = _columns(model.rows), _features()
    spec = {
        name: tf.io.FixedLenFeature([1], tf.as_dtype(features[name].dtype) if name in features else tf.int64)
        for name in columns
    }
    layout = Layout(spec, features, "label")
    ends: list[tuple[float, float]] = []

    class Noted(Resume):
        """Notes when an epoch is done and its state kept."""

        def save(self, state: State) -> None:
            super().save(state)
            ends.append(_now())

    def blocks(rows: int) -> Blocks:
        arrays = tuple(column[:rows] for column in columns.values())
        return Blocks(rows, block_rows(layout, model.batch), arrays, None, [(1,)] * len(arrays))

    batches = dataset(
        blocks(model.rows), layout, model.batch, shuffle_seed=0, replicas=plan.replicas, epochs=range(EPOCHS)
    )
    with tempfile.TemporaryDirectory() as folder:
        resume = Noted(Path(folder, "resume"), writes=_is_first())
        curves = Path(folder, "curves") if _is_first() else None
        course = Course(scope, True, resume=resume, precision=plan.precision, curves=curves)
        held_out = dataset(blocks(model.batch), layout, model.batch, replicas=plan.replicas)
        fitted = fit(_build(model), layout, {}, training, batches, held_out, model.rows, course)
    rates = [one["examples_per_s"] for one in fitted.meter.epochs[1:]]
    return {**_measured(model, rates, ends), "parameters": int(fitted.model.count_params())}


def _measured(model: Model, rates: list[float], ends: list[tuple[float, float]]) -> dict[str, Any]:
    """Of the epochs after the first: rows a second in training, and over all; processor seconds of a million rows.

    Args:
        model: that was trained.
        rates: rows a second of each.
        ends: wall and processor time at the end of every epoch; none in a process that keeps no state.
    """
    if not ends:
        return {}
    wall, cpu = (last - first for first, last in zip(ends[0], ends[-1], strict=True))
    rows = model.rows * (EPOCHS - 1)
    return {
        "examples_per_s": statistics.median(rates),
        "whole_examples_per_s": rows / wall,
        "cpu_s_per_million": cpu / rows * 1e6,
    }


def _now() -> tuple[float, float]:
    return time.monotonic(), time.process_time()


def _bare(model: Model, training: Any, plan: Any, scope: Any) -> dict[str, Any]:
    from components.trainer.fit import keras_for
    from components.trainer.precision import policy

    keras = keras_for(training.backend)
    keras.backend.clear_session()
    keras.utils.set_random_seed(training.seed)
    with scope():
        with policy(keras, plan.precision):
            trained = _build(model)(keras, _features(), {})
        trained.steps_per_execution = 10
        trained.jit_compile = training.jit_compile  # Keras 3 would compile on one device, ours where it is asked to
    rates: list[float] = []
    ends: list[tuple[float, float]] = []

    class Clock(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.began = time.monotonic()

        def on_test_begin(self, logs: Any = None) -> None:
            rates.append(model.rows / (time.monotonic() - self.began))

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            ends.append(_now())

    batches, held_out = _bare_batches(model), _bare_held_out(model)
    if scope.coordinator is not None:
        make = keras.utils.experimental.DatasetCreator
        batches, held_out = make(lambda _: _bare_batches(model)), make(lambda _: _bare_held_out(model).repeat())
    trained.fit(
        batches,
        validation_data=held_out,
        validation_steps=1,
        epochs=EPOCHS,
        steps_per_epoch=model.rows // model.batch,
        callbacks=[Clock()],
        verbose=0,
    )
    return _measured(model, rates[1:], ends)


def _bare_loop(model: Model, training: Any, _: Any, scope: Any) -> dict[str, Any]:
    """A loop as TensorFlow's guides write it, since Keras 3's own `fit` does not train under these strategies."""
    import keras

    from components.trainer.loop import build_under

    keras.backend.clear_session()
    keras.utils.set_random_seed(training.seed)
    with scope():
        trained = _build(model)(keras, _features(), {})
    build_under(scope.strategy, trained, _bare_held_out(model).element_spec)
    ten, judge = _bare_steps(trained, scope.strategy)
    batches, held_out = _bare_iterator(model, scope), next(iter(_bare_held_out(model)))
    rates: list[float] = []
    ends: list[tuple[float, float]] = []
    for _ in range(EPOCHS):
        began = time.monotonic()
        for _ in range(model.rows // model.batch // 10):
            _hand_out(scope, ten, batches)
        _wait(scope)
        rates.append(model.rows / (time.monotonic() - began))
        _hand_out(scope, judge, held_out)
        _wait(scope)
        ends.append(_now())
    return _measured(model, rates[1:], ends)


def _bare_steps(trained: Any, strategy: Any) -> tuple[Any, Any]:
    """Ten steps on the batches of an iterator; and the loss of a batch."""
    import tensorflow as tf

    @tf.autograph.experimental.do_not_convert
    def step(batch: Any) -> None:
        features, label = batch
        with tf.GradientTape() as tape:
            answers = trained(features, training=True)
            loss = trained.compute_loss(features, label, answers, training=True)
        weights = trained.trainable_variables
        trained.optimizer.apply(tape.gradient(loss, weights), weights)
        trained.compute_metrics(features, label, answers)

    @tf.function
    def ten(batches: Any) -> None:
        for _ in tf.range(10):
            strategy.run(step, args=(next(batches),))

    @tf.autograph.experimental.do_not_convert
    def loss(batch: Any) -> Any:
        features, label = batch
        return trained.compute_loss(features, label, trained(features, training=False), training=False)

    @tf.function
    def judge(batch: Any) -> Any:
        return strategy.run(loss, args=(batch,))

    return ten, judge


def _bare_iterator(model: Model, scope: Any) -> Any:
    import tensorflow as tf

    if scope.coordinator is None:
        return iter(scope.strategy.experimental_distribute_dataset(_bare_batches(model)))
    across = tf.function(lambda: scope.strategy.distribute_datasets_from_function(lambda _: _bare_batches(model)))
    return iter(scope.coordinator.create_per_worker_dataset(across))


def _hand_out(scope: Any, function: Any, given: Any) -> None:
    if scope.coordinator is None:
        function(given)
    else:
        scope.coordinator.schedule(function, args=(given,))


def _wait(scope: Any) -> None:
    if scope.coordinator is not None:
        scope.coordinator.join()


def _bare_batches(model: Model) -> Any:
    """As `tf.data` does it best with rows in memory: an order for each epoch, by which each batch is gathered."""
    import tensorflow as tf

    columns = {name: tf.constant(column) for name, column in _columns(model.rows).items()}
    labels = columns.pop("label")

    def epoch(_: Any) -> tf.data.Dataset:
        order = tf.random.shuffle(tf.range(model.rows))
        starts = tf.data.Dataset.range(0, model.rows, model.batch)
        return starts.map(lambda first: order[first : first + model.batch])

    def gather(chosen: Any) -> Any:
        return {name: tf.gather(column, chosen) for name, column in columns.items()}, tf.gather(labels, chosen)

    batches = tf.data.Dataset.range(EPOCHS).flat_map(epoch).map(gather, tf.data.AUTOTUNE)
    return batches.prefetch(tf.data.AUTOTUNE).with_options(_by_rows())


def _bare_held_out(model: Model) -> Any:
    import tensorflow as tf

    columns = {name: column[: model.batch] for name, column in _columns(model.rows).items()}
    labels = columns.pop("label")
    return tf.data.Dataset.from_tensor_slices((columns, labels)).batch(model.batch).with_options(_by_rows())


def _by_rows() -> Any:
    """Workers divide the batches."""
    import tensorflow as tf

    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return options


def _is_first() -> bool:
    task = json.loads(os.environ.get("TF_CONFIG", "{}")).get("task", {})
    return int(task.get("index", 0)) == 0


# --- the section ------------------------------------------------------------------------------------------------------


def section(found: dict[str, list[dict[str, Any]] | None], where: str, command: str) -> str:
    """What RESULTS.md says.

    Args:
        found: by case, a measurement for each model, way and turn; None for what was not run.
        where: machine and date.
        command: that measured it.
    """
    lines = []
    for case, measured in found.items():
        if measured is None:
            lines.append([case, "", "not run: no GPU", "", "", "", ""])
            continue
        models = dict.fromkeys(one["model"] for one in measured)
        lines += [[case, model, *_figures([one for one in measured if one["model"] == model])] for model in models]
    head = [
        "strategy",
        "model",
        "ours, examples/s",
        "bare `fit`",
        "ours / bare, each turn",
        "with the state kept",
        "CPU, ours / bare",
    ]
    parameters = {
        one["model"]: one["parameters"] for made in found.values() for one in made or [] if "parameters" in one
    }
    told = ", ".join(f"{model} ({count:,} parameters)" for model, count in parameters.items())
    return (
        "## Training under each strategy beside a bare script\n\n"
        f"Examples a second in training, the median of the epochs after the first, {told}; batches of 1,024 rows; both in the\n"
        "same processes, turn about. *With the state kept* is the ratio over the whole of `fit` after the first epoch: ours\n"
        "writes its state and the curve after each epoch, the script nothing. Workers have one thread each. *CPU* is the ratio of the\n"
        "first process' processor seconds for the same rows; beside parameter servers that is the chief, which reads the rows for\n"
        "all of ours, where the script's workers each read for themselves. With Keras 3 in several processes the script is a loop of\n"
        "its own. Target: 0.9.\n\n"
        f"{table(head, lines)}\n\n{where}. `{command}`"
    )


def _figures(measured: Sequence[dict[str, Any]]) -> list[str]:
    ours = [one for one in measured if one["way"] == "ours"]
    bare = [one for one in measured if one["way"] == "bare"]
    rates = [statistics.median(one["examples_per_s"] for one in way) for way in (ours, bare)]
    ratios = [a["examples_per_s"] / b["examples_per_s"] for a, b in zip(ours, bare, strict=True)]
    whole = [a["whole_examples_per_s"] / b["whole_examples_per_s"] for a, b in zip(ours, bare, strict=True)]
    cpu = [a["cpu_s_per_million"] / b["cpu_s_per_million"] for a, b in zip(ours, bare, strict=True)]
    return [
        f"{rates[0]:,.0f}",
        f"{rates[1]:,.0f}",
        f"**{statistics.median(ratios):.2f}** ({', '.join(f'{one:.2f}' for one in ratios)})",
        f"{statistics.median(whole):.2f}",
        f"{statistics.median(cpu):.2f}",
    ]


if __name__ == "__main__":
    main()
