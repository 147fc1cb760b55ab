"""The Gate's executor on the small pipeline's model and evaluation: what it reads, and what it writes down."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tfx.components.evaluator import constants
from tfx.types import standard_artifacts

from components.artifact_types import Decision as DecisionArtifact
from components.artifact_types import Profile
from components.gate.executor import Executor
from components.lineage.reader import RECORD_PROPERTY
from schemas.config import GatesConfig
from schemas.decision import DECISION_FILE, FIGURES_FILE, TRAINING_FILE, Decision, Figure, Figures
from schemas.errors import DigestMismatchError, NotAPayloadError
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
        self.more: dict[str, list[Any]] = {}
        self.decision, self.blessing = DecisionArtifact(), standard_artifacts.ModelBlessing()
        self.decision.uri, self.blessing.uri = str(folder / "decision"), str(folder / "blessing")

    def measure(self, change: Callable[[Figures], Figures]) -> None:
        """Puts other figures in the place of those that were measured."""
        figures = Figures.model_validate_json((self.evaluation / FIGURES_FILE).read_bytes())
        self.evaluation = self.folder / "evaluation"
        self.evaluation.mkdir()
        (self.evaluation / FIGURES_FILE).write_text(change(figures).model_dump_json())

    def profile(self, candidate: str, *figures: Figure) -> None:
        """Adds what another node measured."""
        artifact = Profile()
        artifact.uri = str(self.folder / "profile")
        Path(artifact.uri).mkdir()
        (Path(artifact.uri) / FIGURES_FILE).write_text(Figures(candidate=candidate, figures=figures).model_dump_json())
        self.more["profile"] = [artifact]

    def judge(self, gates: dict[str, Any], served: list[standard_artifacts.PushedModel] | None = None) -> Decision:
        """Runs the executor; the decision that it wrote into its file."""
        evaluation = standard_artifacts.ModelEvaluation()
        evaluation.uri = str(self.evaluation)
        inputs = {"model": [self.model], "model_run": [self.model_run], "evaluation": [evaluation], **self.more}
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


def with_champion(figures: Figures, digest: str, shift: float) -> Figures:
    """The champion's figures are the candidate's, shifted."""
    its = [one.model_copy(update={"digest": digest, "value": (one.value or 0.0) + shift}) for one in figures.figures]
    return figures.model_copy(update={"champion": digest, "figures": (*figures.figures, *its)})


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
    desk.measure(lambda figures: with_champion(figures, "0ther", shift))
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


def test_figures_of_other_bytes_are_refused(desk: Desk) -> None:
    """An evaluation of another model says nothing of this one."""
    desk.measure(lambda figures: figures.model_copy(update={"candidate": "0ther"}))
    with pytest.raises(DigestMismatchError, match="does not hold the figures of the candidate") as caught:
        desk.judge(AUC)
    assert caught.value.got == "0ther"
    assert str(desk.evaluation) in caught.value.remedy


def test_a_profile_is_judged_beside_the_evaluation(desk: Desk) -> None:
    """Its figures are those of the same bytes, or it is refused."""
    desk.profile(desk.digest, Figure(metric="size_mb", unit="MB", value=3.0, digest=desk.digest))
    decision = desk.judge({"satisfy": [{"metric": "size_mb", "max": 2}, {"metric": "auc", "min": 0.01}]})
    assert [(gate.metric, gate.verdict, gate.unit) for gate in decision.gates] == [
        ("size_mb", "fail", "MB"),
        ("auc", "pass", "1"),
    ]
    Path(desk.more["profile"][0].uri, FIGURES_FILE).write_text(Figures(candidate="0ther").model_dump_json())
    with pytest.raises(DigestMismatchError, match="figures of the candidate"):
        desk.judge(AUC)


@pytest.mark.parametrize("text", [None, "", "{}", '{"candidate": 3}'])
def test_a_lost_record_of_figures(desk: Desk, text: str | None) -> None:
    """Is named, with what to do."""
    desk.measure(lambda figures: figures)
    (desk.evaluation / FIGURES_FILE).unlink()
    if text is not None:
        (desk.evaluation / FIGURES_FILE).write_text(text)
    with pytest.raises(NotAPayloadError, match="holds no figures") as caught:
        desk.judge(AUC)
    assert caught.value.thing == str(desk.evaluation / FIGURES_FILE)


def test_what_tfx_resolvers_read_is_named_as_tfx_names_it() -> None:
    """The Gate does not import TFX, so it holds the names itself."""
    from components.gate import work

    assert work._BLESSED == constants.ARTIFACT_PROPERTY_BLESSED_KEY
    assert work._MODEL_ID == constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY
    assert work._MODEL_URI == constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY
    assert work._FILES == {True: constants.BLESSED_FILE_NAME, False: constants.NOT_BLESSED_FILE_NAME}


def test_what_else_was_noted_is_no_reason_for_a_missing_champion(desk: Desk) -> None:
    """How busy the machine was does not tell why the champion was not measured; what the nodes say of it does."""
    desk.measure(lambda figures: figures.model_copy(update={"notes": ("load average 0.52",)}))
    decision = desk.judge(AUC, [push("0ther", 3)])
    assert decision.gates[0].verdict == "not_measured"
    assert decision.gates[0].reason.endswith("was not measured: its files are gone or changed, or it lacks the slice")
    file = desk.evaluation / FIGURES_FILE
    figures = Figures.model_validate_json(file.read_bytes())
    file.write_text(figures.model_copy(update={"why_no_champion": "it does not load"}).model_dump_json())
    assert desk.judge(AUC, [push("0ther", 3)]).gates[0].reason.endswith("was not measured: it does not load")
