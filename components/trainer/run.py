"""`run_fn`, which TFX's Trainer node calls: unpacks its arguments, trains, exports, records."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft
from tfx.utils import io_utils

from components.code import code_fingerprint
from components.trainer.blocks import memory_budget_bytes
from components.trainer.cluster import Losses, run_cluster
from components.trainer.compress import Compressed, compress, compression_of
from components.trainer.export import raw_spec_of, save
from components.trainer.fit import Course, Fitted, fit, keras_for, seeded
from components.trainer.golden import first_records, write_requests
from components.trainer.inputs import VALIDATION_ROWS, Layout, block_rows, dataset, layout_of
from components.trainer.kept_logs import logs_kept
from components.trainer.kubernetes_run import Errand, check_on_volume, run_in_kubernetes
from components.trainer.member import as_work
from components.trainer.preprocessing import Preprocessing
from components.trainer.reference import read_reference, write_reference
from components.trainer.resume import Resume, key_of
from components.trainer.rows import Reader, rows_stated
from components.trainer.scope import machine_of_tensorflow, prepare, serve
from components.trainer.strategy import Member, Plan, find_machine, make_plan, with_replicas
from components.trainer.tuned import TUNED, tuned
from components.trainer.warm_start import read_champion, vocabularies_changed
from schemas.config import KubernetesConfig, ModelConfig, TFLiteConfig, TrainingConfig
from schemas.decision import TRAINING_FILE
from schemas.errors import KubernetesError
from serving import payload

__all__ = ["custom_config", "run_fn"]

_USAGE = ".usage.json"
_PODS = "pods"
"""Key of `custom_config`: where the members run; it is left out where they run on this machine."""
_PIPELINE = "pipeline"


def custom_config(
    model: ModelConfig,
    training: TrainingConfig,
    fingerprint: str,
    tflite: TFLiteConfig | None = None,
    pipeline: str = "",
) -> dict[str, str]:
    """What the Trainer node hands to `run_fn`, and what its cache key therefore sees.

    Args:
        model: the configuration's section.
        training: the configuration's section.
        fingerprint: of the code of the user's `build_model`.
        tflite: the configuration's section; what it says of training counts, and nothing else.
        pipeline: its name, by which a training in Kubernetes is known there.
    """
    compression = compression_of(tflite)
    pods = training.kubernetes if training.cluster == "kubernetes" else None
    return {
        "model": model.model_dump_json(by_alias=True),
        # The search has been made when this node begins: what came of it is an input.
        "training": training.model_copy(update={"tune": None}).model_dump_json(
            by_alias=True, exclude={"cluster", "kubernetes"}
        ),
        "build_model_fingerprint": fingerprint,
        **({"compression": compression.model_dump_json()} if compression else {}),
        "code_fingerprint": code_fingerprint("components.trainer", "serving", "schemas"),
        **({_PODS: pods.model_dump_json(by_alias=True), _PIPELINE: pipeline} if pods else {}),
    }


def run_fn(fn_args: Any) -> None:
    """Trains on the `train` split, watches `validate`, and writes the SavedModel and the training record.

    Args:
        fn_args: TFX's `FnArgs`; its `custom_config` is made by `custom_config` above.
    """
    fn_args.custom_config = tuned(fn_args.custom_config, fn_args.hyperparameters)
    training = TrainingConfig.model_validate_json(fn_args.custom_config["training"])
    machine = machine_of_tensorflow()
    pods = _PODS in fn_args.custom_config and machine.member is None
    if pods:
        where = KubernetesConfig.model_validate_json(fn_args.custom_config[_PODS])
        training = training.model_copy(update={"cluster": "kubernetes", "kubernetes": where})
    plan = make_plan(training, machine)
    if machine.member and machine.member.serves:
        serve(machine.member, plan)
        return
    if not (plan.local_cluster or pods):
        train(fn_args, plan)
        return
    run_dir = _made(Path(fn_args.model_run_dir))
    with logs_kept(run_dir / "workers"):
        if training.kubernetes is None:
            work = {**as_work(fn_args, sys.path), "plan": plan.as_dict()}
            losses = run_cluster(plan, work, run_dir / "workers", [sys.executable, "-m", "components.trainer.member"])
        else:
            losses = _in_pods(fn_args, plan, training.kubernetes, run_dir)
    record = json.loads((run_dir / TRAINING_FILE).read_text(encoding="utf-8"))
    usage = {file.name.removesuffix(_USAGE): json.loads(file.read_text(encoding="utf-8"))
             for file in sorted((run_dir / "workers").glob(f"*{_USAGE}"))}  # fmt: skip
    _write(run_dir, {**record, "cpu_utilisation": usage, **losses.as_record()})


def _in_pods(fn_args: Any, plan: Plan, config: KubernetesConfig, run_dir: Path) -> Losses:
    """Trains in Kubernetes, with what lies on the volume that the pods mount."""
    mount = Path(config.volume.mount_path)
    model = ModelConfig.model_validate_json(fn_args.custom_config["model"])
    needed = [
        *(("training rows", path) for path in fn_args.train_files),
        *(("validation rows", path) for path in fn_args.eval_files),
        ("transform graph", fn_args.transform_output),
        ("schema", fn_args.schema_path),
        ("model", fn_args.serving_model_dir),
        ("record of the training", fn_args.model_run_dir),
        ("model served", fn_args.base_model or ""),
        ("module of the model", _outside_of_the_image(model.module)),
    ]
    check_on_volume(config, needed)
    path = [entry for entry in sys.path if entry and Path(entry).is_relative_to(mount)]
    errand = Errand(
        pipeline=fn_args.custom_config[_PIPELINE] or "training",
        root=run_dir.parent,
        run=run_dir.name,
        work={**as_work(fn_args, path), "plan": None},
        logs=run_dir / "workers",
    )
    losses = run_in_kubernetes(plan, config, errand)
    if not (run_dir / TRAINING_FILE).is_file():
        raise KubernetesError(
            "the pods",
            f"are done, and their record is not in {run_dir}",
            expected=f"the claim {config.volume.claim} at {mount}, for them and for the Trainer node",
        )
    return losses


def _outside_of_the_image(module: str) -> str:
    """The file of a module that is not installed as this one is; "" where it is."""
    spec = importlib.util.find_spec(module)
    file = (spec.origin if spec else None) or ""
    installed = (Path(__file__).resolve().parents[2], Path(sys.prefix).resolve())
    return "" if any(Path(file).resolve().is_relative_to(one) for one in installed) else file


def train(fn_args: Any, plan: Plan) -> None:
    """Trains in this process, which may be a member of a cluster, as a plan says.

    Args:
        fn_args: as `run_fn` takes them. The chief of a cluster writes the outputs, and nobody else does.
        plan: for this process.
    """
    model_config = ModelConfig.model_validate_json(fn_args.custom_config["model"])
    training = TrainingConfig.model_validate_json(fn_args.custom_config["training"])
    scope = prepare(plan, training)
    plan = with_replicas(plan, scope.replicas)
    seeded(training)
    module = importlib.import_module(model_config.module)
    transformed = tft.TFTransformOutput(fn_args.transform_output)
    layout = layout_of(transformed, model_config.label)
    preprocessing = Preprocessing(transformed.transform_savedmodel_dir)
    raw_spec = raw_spec_of(io_utils.SchemaReader().read(fn_args.schema_path))

    run_dir = Path(fn_args.model_run_dir)
    resume = _resume(fn_args, plan)
    champion = read_champion(fn_args.base_model) if training.warm_start == "champion" else None
    course = Course(
        scope,
        epochs_in_train=True,
        state=resume.load(),
        resume=resume,
        precision=plan.precision,
        champion=champion,
        curves=run_dir if resume.writes else None,
        shared=resume.folder if plan.strategy == "multi_worker_mirrored" and plan.workers > 1 else None,
    )
    # Below the node's own output, which goes when an attempt that was killed is made again.
    with tempfile.TemporaryDirectory(prefix=".rows-", dir=_made(run_dir)) as folder:
        reader = Reader(preprocessing, layout, raw_spec)
        fitted, small = _fit(fn_args, model_config, training, module, layout, reader, Path(folder), plan, course)
    member = find_machine().member
    if member:
        _note_usage(run_dir, member, fitted)
    if not resume.writes:
        return
    model = small.model if small else fitted.model
    names = save(keras_for(training.backend), model, preprocessing, layout, raw_spec, fn_args.serving_model_dir)
    reference = read_reference(run_dir)
    records = first_records(fn_args.eval_files if reference else fn_args.train_files)
    write_requests(
        Path(fn_args.serving_model_dir), records, reference.predictions if reference else None, raw_spec, names
    )
    record = {
        **fitted.as_record(),
        **_vocabularies(fitted, fn_args, transformed),
        "plan": plan.as_dict(),
        "cpu_utilisation": {member.name if member else "trainer": fitted.meter.cpu_utilisation},
        **({"compression": small.record} if small else {}),
        "serving_features": names,
        "parameters": int(model.count_params()),
        **({"hyperparameters": model_config.hyperparameters} if TUNED in fn_args.custom_config else {}),
        "digest": payload.digest(fn_args.serving_model_dir),
    }
    _write(run_dir, record)
    resume.clear()


def _note_usage(run_dir: Path, member: Member, fitted: Fitted) -> None:
    """Leaves how busy this member of a cluster was where whoever started it looks."""
    file = _made(run_dir / "workers") / f"{member.name}{_USAGE}"
    file.write_text(json.dumps(fitted.meter.cpu_utilisation), encoding="utf-8")


def _vocabularies(fitted: Fitted, fn_args: Any, transformed: Any) -> dict[str, Any]:
    """The beginning of the training, with the vocabularies that have other words than the champion's."""
    if not fitted.warm_start or "variables" not in fitted.warm_start:
        return {}
    changed = vocabularies_changed(fn_args.base_model, transformed.transform_savedmodel_dir)
    return {"warm_start": {**fitted.warm_start, **({"vocabularies": changed} if changed else {})}}


def _write(run_dir: Path, record: dict[str, Any]) -> None:
    (_made(run_dir) / TRAINING_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _resume(fn_args: Any, plan: Plan) -> Resume:
    """Where the state of this training is kept: beside the outputs of all attempts, under a name that is its own."""
    training = TrainingConfig.model_validate_json(fn_args.custom_config["training"])
    key = key_of(
        {name: value for name, value in fn_args.custom_config.items() if name not in (_PODS, _PIPELINE)},
        fn_args.train_files,
        fn_args.eval_files,
        fn_args.transform_output,
        fn_args.base_model,
        plan.replicas,
        plan.precision,
    )
    member = find_machine().member
    return Resume(
        Path(fn_args.model_run_dir).parent / f".resume-{key}",
        writes=member is None or member.is_chief,
        every_steps=training.checkpoint_every_steps,
        within_epochs=plan.strategy != "parameter_server",
    )


def _fit(
    fn_args: Any,
    model: ModelConfig,
    training: TrainingConfig,
    module: ModuleType,
    layout: Layout,
    reader: Reader,
    folder: Path,
    plan: Plan,
    course: Course,
) -> tuple[Fitted, Compressed | None]:
    """Reads both splits once, trains, makes the model smaller where that is asked for, and keeps its reference."""
    batch, replicas = training.global_batch_size, plan.replicas
    held_out_batch = max(batch, VALIDATION_ROWS)
    stated, budget = rows_stated(fn_args.transform_output), memory_budget_bytes()
    train = reader.read(
        fn_args.train_files, block_rows(layout, batch), budget // 2, folder / "train.arrow", stated.get("train")
    )
    train.check(layout.label, "train")
    held_out = reader.read(
        fn_args.eval_files,
        block_rows(layout, held_out_batch),
        budget // 8,  # they are read in their order, which costs little from a file
        folder / "validate.arrow",
        stated.get("validate"),
    )
    left = range(course.state.epochs, training.epochs)
    batches = dataset(train.blocks, layout, batch, shuffle_seed=training.seed, replicas=replicas, epochs=left)
    fitted = fit(
        module.build_model,
        layout,
        model.hyperparameters,
        training,
        batches.skip(course.state.step) if course.state.step else batches,
        dataset(held_out.blocks, layout, held_out_batch, replicas=replicas),
        train.blocks.rows,
        course,
    )
    if course.resume is None or not course.resume.writes:
        return fitted, None
    rows = dataset(train.blocks, layout, batch, shuffle_seed=training.seed)
    validate = dataset(held_out.blocks, layout, held_out_batch)
    small = _compressed(fn_args.custom_config, keras_for(training.backend), fitted, rows, validate)
    if held_out.blocks.rows:
        shipped = small.model if small else fitted.model
        write_reference(shipped, validate, _made(Path(fn_args.model_run_dir)))
    return fitted, small


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _compressed(
    custom: dict[str, str], keras: ModuleType, fitted: Fitted, train: tf.data.Dataset, validate: tf.data.Dataset
) -> Compressed | None:
    """The model trained on in the way that the configuration asks for; None where it asks for none."""
    if "compression" not in custom:
        return None
    epochs = len(next(iter(fitted.history.values()), []))
    tflite = TFLiteConfig.model_validate_json(custom["compression"])
    return compress(keras, fitted.model, tflite, train, validate, epochs)
