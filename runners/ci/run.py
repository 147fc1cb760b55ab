"""Runs a base and a candidate on one sample in a temporary root, and says what the gates make of the candidate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from components.example_gen.fingerprint import Snapshot
from components.example_gen.spans import files_of
from components.gate.against import held_against
from components.profiler.machine import machine
from runners.ci.base import Kept, changed_files, checked_out, is_decision, read_kept, repository_of
from runners.ci.report import Outcome, Report, changes
from runners.ci.sample import Sample, write_sample
from schemas.config import PipelineConfig
from schemas.decision import DataDecision, Decision
from schemas.errors import ConfigError, DataError, Fault, NodeFailedError, SatisficeError, shorten
from schemas.load import LoadedConfig, load_config

__all__ = ["check_change"]

_TRIALS = 3
"""Of a search for hyperparameters."""

_OUTCOMES: dict[int, Outcome] = {0: "would_push", 3: "would_block"}
"""By the exit code of `satisfice run`."""


def check_change(loaded: LoadedConfig, base: str, rows: int, overrides: tuple[str, ...]) -> Report:
    """Builds the base, if it is a commit, then what stands in the working tree, and compares.

    Nothing is written beside the configuration: root, lineage and base paths are temporary. Approval is not waited for.

    Args:
        loaded: the candidate's configuration.
        base: a commit, a file with a decision, or "" for nothing.
        rows: of the sample, at most; 0 for all.
        overrides: as `--set` took them, for both sides.

    Raises:
        ConfigError: the base is none, or a configuration is wrong.
        DataError: the data cannot be read.
        NodeFailedError: the base does not build.
    """
    kept = read_kept(Path(base)) if is_decision(base) else None
    repository = repository_of(loaded.folder)
    if base and kept is None and repository is None:
        expected = "a configuration in a git repository, or a decision in a .json file"
        raise ConfigError("command line", [Fault("--base", "is given outside of a repository", expected, base)])
    with tempfile.TemporaryDirectory(prefix="satisfice-ci-") as folder:
        place = _Place(Path(folder), loaded.config, overrides)
        sample = place.sample(rows)
        told = _Told(loaded.config.name, sample, _cut(loaded.config))
        if not base or repository is None or kept is not None:
            ran = place.run(loaded.file, repository)
            return told.report(ran, base=base) if kept is None else told.beside(ran, kept, loaded.config)
        with checked_out(repository, base, place.folder / "base") as there:
            file = there.folder / loaded.file.resolve().relative_to(repository.resolve())
            then = _configuration(file, base, overrides)
            first = place.run(file, there.folder)
            if first.code not in (0, 3):
                raise NodeFailedError(
                    f"base {base}", "does not build", got=first.error, remedy="Mend it, or give another."
                )
            code = changed_files(repository, there.commit)
            data = _changed_data(then, loaded)
            last = place.run(loaded.file, repository)
        return told.report(
            last,
            base=f"{base} ({there.commit[:12]})",
            base_told="" if first.code == 0 else "The base itself is blocked by its gates, so there is no champion.",
            data=data,
            code=tuple(code),
            configuration=changes(_relative(then), _relative(loaded)),
        )


@dataclass(frozen=True)
class _Ran:
    """What `satisfice run --json` answered."""

    code: int
    answer: dict[str, Any]
    error: str

    @property
    def outcome(self) -> Outcome:
        return _OUTCOMES.get(self.code, "failed")


@dataclass(frozen=True)
class _Told:
    """What is told of every report."""

    pipeline: str
    sample: Sample
    cut: str = ""

    def report(self, ran: _Ran, *, base: str, **others: Any) -> Report:
        decision, data = ran.answer.get("decision"), ran.answer.get("data_decision")
        given = {
            "pipeline": self.pipeline,
            "base": base,
            "base_told": "",
            "sample": self.words,
            "outcome": ran.outcome,
            "decision": Decision.model_validate(decision, strict=False) if decision else None,
            "data_decision": DataDecision.model_validate(data, strict=False) if data else None,
            "error": ran.error if ran.outcome == "failed" else "",
            "fingerprint": self.sample.fingerprint,
            "machine": machine(),
        }
        return Report(**{**given, **others})

    @property
    def words(self) -> str:
        return f"{self.sample.rows:,} of {self.sample.of:,} rows (data {self.sample.fingerprint[:12]}){self.cut}"

    def beside(self, ran: _Ran, kept: Kept, config: PipelineConfig) -> Report:
        """With every comparison judged against a decision that was kept."""
        report = self.report(ran, base=str(kept.file), data=tuple(self._other_rows(kept)))
        if report.decision is None:
            return report
        tflite = config.export.tflite
        decision = held_against(
            kept.decision,
            report.decision,
            config.gates,
            name=f"the base ({kept.file.name})",
            machine=_elsewhere(kept),
            blocks_saved_model=tflite is not None and tflite.blocks_saved_model,
        )
        blocked = report.outcome == "would_push" and decision.outcome == "block"
        told = "The base itself is blocked by its gates." if kept.decision.outcome == "block" else ""
        outcome: Outcome = "would_block" if blocked else report.outcome
        return replace(report, decision=decision, outcome=outcome, base_told=told)

    def _other_rows(self, kept: Kept) -> Iterator[str]:
        if not kept.data:
            yield "which rows the base was measured on is not in its file"
        elif (kept.data, kept.sample) != (self.sample.fingerprint, self.words):
            yield f"the base was measured on other rows: {kept.sample or f'data {kept.data[:12]}'}"


@dataclass(frozen=True)
class _Place:
    """The temporary folder in which both sides run, with one lineage and one base path, so that the base is the champion."""

    folder: Path
    config: PipelineConfig
    overrides: tuple[str, ...]

    @property
    def _sampled(self) -> Path:
        return self.folder / "sample.arrow"

    def sample(self, rows: int) -> Sample:
        path = Path(self.config.data.schema_path)
        try:
            schema = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SatisficeError(str(path), f"cannot be read: {error}", remedy="Correct data.schema.") from error
        return write_sample(self.config.data.source, schema, rows, self._sampled)

    def run(self, file: Path, code: Path | None) -> _Ran:
        """Runs a configuration; with the code beside it where that is a checkout of this project itself."""
        environment, place = dict(os.environ), None
        if code is not None and (code / "runners" / "cli.py").is_file():
            known = environment.get("PYTHONPATH")
            place = code  # worker processes look there first
            environment["PYTHONPATH"] = os.pathsep.join([str(code), *([known] if known else [])])
        done = subprocess.run(
            [sys.executable, "-P", "-m", "runners.cli", "run", str(file), *self._options(file)],
            cwd=place,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        try:
            answer = json.loads(done.stdout)
        except ValueError:
            answer = {}
        return _Ran(done.returncode, answer, _error(answer, done.stderr))

    def _options(self, file: Path) -> list[str]:
        """Of the run. The whole section `push` is another: no base path, device or server that is configured is met."""
        config = load_config(file, self.overrides).config
        push = config.push
        serving = {"base_path": str(self.folder / "serving"), "server_version": push.serving.server_version}
        values = {
            "data.source": {"format": "arrow", "path": str(self._sampled)},
            "push": {"serving": serving, **({"edge": {"base_path": str(self.folder / "edge")}} if push.edge else {})},
            "metadata": {"sqlite": {"path": str(self.folder / "metadata.db")}},
            "gates.approval": "none",
            **({"training.tune.trials": _trials_of(config)} if config.training.searches else {}),
        }
        given = [*self.overrides, *(f"{key}={json.dumps(value)}" for key, value in values.items())]
        return ["--root", str(self.folder / "root"), "--json", *(word for one in given for word in ("--set", one))]


def _elsewhere(kept: Kept) -> str:
    """Why a base's figures of time and memory do not count; "" where they do."""
    if not kept.machine:
        return "it does not say on which machine it was measured"
    return "" if kept.machine == machine() else f"it was measured on another machine: {kept.machine}"


def _changed_data(then: LoadedConfig, now: LoadedConfig) -> tuple[str, ...]:
    """In which way the files that a run reads differ from the base's, where the repository holds those."""
    try:
        before_files, after_files = (files_of(one.config.data.source) for one in (then, now))
    except DataError:
        return ()
    before, after = (
        {
            str(file.relative_to(folder) if file.is_relative_to(folder) else file): digest
            for file, digest in found.items()
        }
        for found, folder in (
            (Snapshot.of(before_files).digests, then.folder),
            (Snapshot.of(after_files).digests, now.folder),
        )
    )
    told = [f"{name} is new" for name in after if name not in before]
    gone = [name for name in before if name not in after]
    told += [f"{name} is {'read no more' if (now.folder / name).exists() else 'gone'}" for name in gone]
    told += [f"{name} holds something else" for name in after if name in before and after[name] != before[name]]
    return (*sorted(told), "both sides ran on rows of the changed data") if told else ()


def _cut(config: PipelineConfig) -> str:
    """What is told of a search that is cut short."""
    tune, trials = config.training.tune, _trials_of(config)
    return (
        f"; the search for hyperparameters was cut to {trials} of {tune.trials} trials"
        if tune and trials < tune.trials
        else ""
    )


def _trials_of(config: PipelineConfig) -> int:
    """How many trials a search is cut to: enough to see that it works."""
    return min(config.training.tune.trials, _TRIALS) if config.training.tune else 0


def _configuration(file: Path, base: str, overrides: tuple[str, ...]) -> LoadedConfig:
    try:
        return load_config(file, overrides)
    except SatisficeError as error:
        problem = "has no such configuration that could be built"
        raise NodeFailedError(f"base {base}", problem, got=str(error), remedy="Give another base.") from error


def _relative(loaded: LoadedConfig) -> Any:
    """The configuration with paths as they are beside its file, so that those of two folders are equal."""
    return json.loads(json.dumps(loaded.config.canonical()).replace(f"{loaded.folder}{os.sep}", ""))


def _error(answer: dict[str, Any], noise: str) -> str:
    error = answer.get("error")
    if isinstance(error, dict):
        return f"{error['thing']}: {error['problem']}"
    if isinstance(error, str):
        told = [f"{fault['path']}: {fault['problem']}" for fault in answer.get("faults", ())]
        return "; ".join([f"{answer['thing']}: {answer['problem']}", *told])
    lines = [line for line in noise.splitlines() if line.strip()]
    return shorten(lines[-1]) if lines else "it ended without a word"
