"""The Gate's executor on the small pipeline's model and evaluation: what it reads, and what it writes down."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tfx.components.evaluator import constants
from tfx.types import standard_artifacts

from components.artifact_types import Decision as DecisionArtifact
from components.gate.executor import Executor
from components.lineage.reader import RECORD_PROPERTY
from schemas.config import GatesConfig
from schemas.decision import DECISION_FILE, TRAINING_FILE, Decision
from schemas.errors import DigestMismatchError
from tests.components.evaluation.rewrite import evaluation_of_both
from tests.components.first_run import FirstRun

AUC = {"optimize": {"metric": "auc", "at_least_champion_minus": 0.1}}


class Desk:
    """The artifacts of one execution, below a folder."""

    def __init__(self, folder: Path, first_run: FirstRun) -> None:
        self.folder = folder
        self.evaluation = first_run.uris["Evaluator", "evaluation"]
        self.model = standard_artifacts.Model()
        self.model.id, self.model.uri = 7, str(first_run.uris["Trainer", "model"])
        self.model_run = standard_artifacts.ModelRun()
        self.model_run.uri = str(first_run.uris["Trainer", "model_run"])
        self.digest = json.loads(Path(self.model_run.uri, TRAINING_FILE).read_text())["digest"]
        self.decision, self.blessing = DecisionArtifact(), standard_artifacts.ModelBlessing()
        self.decision.uri, self.blessing.uri = str(folder / "decision"), str(folder / "blessing")

    def judge(self, gates: dict[str, Any], served: list[standard_artifacts.PushedModel] | None = None) -> Decision:
        """Runs the executor; the decision that it wrote into its file."""
        evaluation = standard_artifacts.ModelEvaluation()
        evaluation.uri = str(self.evaluation)
        inputs = {"model": [self.model], "model_run": [self.model_run], "evaluation": [evaluation]}
        if served is not None:
            inputs["served"] = served
        config = GatesConfig.model_validate(gates, strict=False)
        Executor().Do(
            inputs,
            {"decision": [self.decision], "blessing": [self.blessing]},
            {"gates": config.model_dump_json(by_alias=True), "config_digest": "c0ffee"},
        )
        return Decision.model_validate_json(Path(self.decision.uri, DECISION_FILE).read_bytes())

    @property
    def blessed(self) -> tuple[int, list[str]]:
        """As TFX's resolvers read it, and as people look for it."""
        value = self.blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY)
        return value, [file.name for file in Path(self.blessing.uri).iterdir()]


@pytest.fixture
def desk(tmp_path: Path, first_run: FirstRun) -> Desk:
    return Desk(tmp_path, first_run)


def push(digest: str, version: int) -> standard_artifacts.PushedModel:
    artifact = standard_artifacts.PushedModel()
    artifact.set_string_custom_property("digest", digest)
    artifact.set_int_custom_property("version", version)
    return artifact


@pytest.mark.parametrize("served", [None, []])
def test_an_admitted_candidate(desk: Desk, served: list[Any] | None) -> None:
    """Nothing is served yet: the record is in the file and in the store, and the standard blessing beside it."""
    decision = desk.judge(AUC, served)
    assert (decision.outcome, decision.digest, decision.config_digest) == ("push", desk.digest, "c0ffee")
    assert [gate.verdict for gate in decision.gates] == ["no_champion"]
    assert (decision.champion_digest, decision.champion_version) == ("", None)
    assert (desk.decision.outcome, desk.decision.digest) == ("push", desk.digest)
    assert Decision.model_validate_json(desk.decision.get_string_custom_property(RECORD_PROPERTY)) == decision
    assert desk.blessed == (1, [constants.BLESSED_FILE_NAME])
    assert desk.blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY) == 7
    assert desk.blessing.get_string_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY) == desk.model.uri


def test_a_blocked_candidate_is_not_blessed(desk: Desk) -> None:
    """The node completes, with the reason."""
    decision = desk.judge({"satisfy": [{"metric": "auc", "min": 0.9999}]})
    assert decision.outcome == desk.decision.outcome == "block"
    assert "is not at least 0.9999" in decision.reasons[0]
    assert desk.blessed == (0, [constants.NOT_BLESSED_FILE_NAME])


@pytest.mark.parametrize(("shift", "outcome", "blessed"), [(-0.2, "push", 1), (0.2, "block", 0)])
def test_the_champions_own_figures_are_compared(desk: Desk, shift: float, outcome: str, blessed: int) -> None:
    """Those of the same evaluation, under the digest and version of the push record."""
    desk.evaluation = evaluation_of_both(desk.evaluation, desk.folder / "evaluation", shift)
    decision = desk.judge(AUC, [push("0ther", 4)])
    (gate,) = decision.gates
    assert (decision.outcome, decision.champion_digest, decision.champion_version) == (outcome, "0ther", 4)
    assert gate.value is not None
    assert gate.champion == pytest.approx(gate.value + shift)
    assert desk.blessed[0] == blessed


def test_a_champion_that_was_not_evaluated_blocks(desk: Desk) -> None:
    """Its model is gone: the candidate's figures are not taken for its own."""
    decision = desk.judge(AUC, [push("0ther", 4)])
    assert (decision.outcome, decision.gates[0].verdict, decision.gates[0].champion) == ("block", "not_measured", None)


def test_the_champions_bytes_are_already_served(desk: Desk) -> None:
    """They stay blessed, and nothing is compared."""
    decision = desk.judge(AUC, [push(desk.digest, 4)])
    assert (decision.outcome, decision.champion_version) == ("already_served", 4)
    assert [gate.verdict for gate in decision.gates] == ["already_served"]
    assert desk.blessed == (1, [constants.BLESSED_FILE_NAME])


def test_bytes_that_were_changed_since_the_training_are_refused(desk: Desk) -> None:
    """The figures are not theirs: no decision is made of them."""
    changed = desk.folder / "model"
    shutil.copytree(desk.model.uri, changed)
    (payload,) = changed.rglob("saved_model.pb")
    payload.write_bytes(payload.read_bytes() + b"\0")
    desk.model.uri = str(changed)
    with pytest.raises(DigestMismatchError, match="does not hold the bytes that were trained and evaluated") as caught:
        desk.judge(AUC)
    assert desk.digest in caught.value.expected
    assert str(changed) in caught.value.remedy
    assert not Path(desk.decision.uri).exists()
