"""Runs a base and a candidate on one sample in a temporary root, and says what the gates make of the candidate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runners.ci.base import changed_files, checked_out, is_decision, read_decision, repository_of
from runners.ci.report import Outcome, Report, against, changes
from runners.ci.sample import Sample, write_sample
from schemas.config import PipelineConfig
from schemas.decision import DataDecision, Decision
from schemas.errors import ConfigError, Fault, NodeFailedError, SatisficeError, shorten
from schemas.load import LoadedConfig, load_config

__all__ = ["check_change"]

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
    kept = read_decision(Path(base)) if is_decision(base) else None
    repository = repository_of(loaded.folder)
    if base and kept is None and repository is None:
        expected = "a configuration in a git repository, or a decision in a .json file"
        raise ConfigError("command line", [Fault("--base", "is given outside of a repository", expected, base)])
    with tempfile.TemporaryDirectory(prefix="satisfice-ci-") as folder:
        place = _Place(Path(folder), loaded.config, overrides)
        sample = place.sample(rows)
        told = _Told(loaded.config.name, sample)
        if not base or repository is None or kept is not None:
            return told.report(place.run(loaded.file, repository), base=base, kept=kept, config=loaded.config)
        with checked_out(repository, base, place.folder / "base") as there:
            file = there.folder / loaded.file.resolve().relative_to(repository.resolve())
            then = _configuration(file, base, overrides)
            first = place.run(file, there.folder)
            if first.code not in (0, 3):
                raise NodeFailedError(
                    f"base {base}", "does not build", got=first.error, remedy="Mend it, or give another."
                )
            code = changed_files(repository, there.commit)
            last = place.run(loaded.file, repository)
        return told.report(
            last,
            base=f"{base} ({there.commit[:12]})",
            base_told="" if first.code == 0 else "The base itself is blocked by its gates, so there is no champion.",
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

    def report(
        self, ran: _Ran, *, base: str, kept: Decision | None = None, config: PipelineConfig | None = None, **others: Any
    ) -> Report:
        decision, data = ran.answer.get("decision"), ran.answer.get("data_decision")
        judged = Decision.model_validate(decision, strict=False) if decision else None
        outcome: Outcome = ran.outcome
        worse: tuple[str, ...] = ()
        if kept is not None and judged is not None and config is not None:
            optimize = config.gates.optimize
            judged, worse = against(kept, judged, optimize.at_least_champion_minus if optimize else None)
            outcome = "would_block" if worse and outcome == "would_push" else outcome
        return Report(
            pipeline=self.pipeline,
            base=base,
            base_told=others.pop("base_told", ""),
            sample=f"{self.sample.rows:,} of {self.sample.of:,} rows (data {self.sample.fingerprint[:12]})",
            outcome=outcome,
            decision=judged,
            data_decision=DataDecision.model_validate(data, strict=False) if data else None,
            worse=worse,
            error=ran.error if outcome == "failed" else "",
            **others,
        )


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
        push = load_config(file, self.overrides).config.push
        serving = {"base_path": str(self.folder / "serving"), "server_version": push.serving.server_version}
        values = {
            "data.source": {"format": "arrow", "path": str(self._sampled)},
            "push": {"serving": serving, **({"edge": {"base_path": str(self.folder / "edge")}} if push.edge else {})},
            "metadata": {"sqlite": {"path": str(self.folder / "metadata.db")}},
            "gates.approval": "none",
        }
        given = [*self.overrides, *(f"{key}={json.dumps(value)}" for key, value in values.items())]
        return ["--root", str(self.folder / "root"), "--json", *(word for one in given for word in ("--set", one))]


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
