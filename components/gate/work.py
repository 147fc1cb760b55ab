"""Reads the figures of candidate and champion, has them judged, writes the decision and the standard blessing. No TFX."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from components.gate.decide import Champion, decide
from components.lineage.served import saved_model_of
from components.tflite.select import choose, joined
from components.work import Call, write_file, write_record
from schemas.config import GatesConfig, TFLiteConfig
from schemas.decision import DECISION_FILE, FIGURES_FILE, TRAINING_FILE, EdgeDecision, Figures
from schemas.errors import DigestMismatchError, NotAPayloadError
from schemas.tflite import EXPORT_FILE, Export
from serving import payload

__all__ = ["bless", "judge"]

_BLESSED = "blessed"
_MODEL_ID = "current_model_id"
_MODEL_URI = "current_model"
_FILES = {True: "BLESSED", False: "NOT_BLESSED"}
"""What TFX's own Evaluator writes, and its resolvers read (`tfx.components.evaluator.constants`)."""


def judge(call: Call) -> None:
    """Judges the candidate by every gate. A block is written down like any other decision; it is no failure.

    Raises:
        DigestMismatchError: the candidate's bytes are not those that were trained, or not those that were measured.
        NotAPayloadError: what was measured left no figures.
    """
    model = call.one("model")
    digest = _trained_digest(model, call.one("model_run"))
    measured = [_figures(call.one("evaluation"), digest)]
    profile = call.any("profile")
    if profile is not None:
        measured.append(_figures(profile, digest))
    gates = GatesConfig.model_validate_json(call.parameters["gates"])
    decision = decide(
        gates,
        digest,
        [figure for figures in measured for figure in figures.of(digest)],
        _champion(call.any("served"), measured, call.parameters.get("accept_without_champion", "")),
        call.parameters["config_digest"],
    )
    decision = decision.model_copy(
        update={
            "rehearsal": next((one.rehearsal for one in measured if one.rehearsal is not None), None),
            "head": _head(call.any("served")),
            **_spans(call.one("evaluation")),
        }
    )
    files = call.any("tflite")
    if files is not None:
        edge = _edge(call, files, gates, digest)
        blocks = TFLiteConfig.model_validate_json(call.parameters["export"]).blocks_saved_model
        decision = joined(decision, edge, blocks_saved_model=blocks)
    output = call.outputs["decision"]
    output.properties["outcome"].string_value = decision.outcome
    output.properties["digest"].string_value = digest
    write_record(output, DECISION_FILE, decision)
    bless(call.outputs["blessing"], model, blessed=decision.outcome in ("push", "already_served"))


def _spans(evaluation: Any) -> dict[str, Any]:
    """The spans of the candidate's data, as the Evaluator hands them on; nothing where they have none."""
    told = evaluation.custom_properties
    return {"span": told["span"].int_value, "spans": told["spans"].string_value} if "spans" in told else {}


def _edge(call: Call, files: Any, gates: GatesConfig, digest: str) -> EdgeDecision:
    """Which of the candidate's `.tflite` files ships."""
    file = Path(files.uri, EXPORT_FILE)
    export = Export.model_validate_json(file.read_bytes())
    if export.saved_model != digest:
        raise DigestMismatchError(
            str(file),
            "was not made of the candidate",
            expected=f"files of the digest {digest}",
            got=export.saved_model,
            remedy=f"Remove the folder {files.uri}: the next run converts anew.",
        )
    profile = call.any("tflite_profile")
    measured = [_figures(profile, digest)] if profile is not None else []
    accepted = call.parameters.get("accept_without_champion", "")
    champion = _champion(call.any("served_file"), measured, accepted)
    chosen = choose(export, [figure for one in measured for figure in one.figures], gates, champion)
    return chosen.model_copy(update={"head": _head(call.any("served_file"))})


def _trained_digest(model: Any, model_run: Any) -> str:
    """The digest of the candidate's bytes, which have to be the ones that the Trainer made."""
    path = saved_model_of(model)
    made = json.loads(Path(model_run.uri, TRAINING_FILE).read_text(encoding="utf-8"))["digest"]
    found = payload.digest(path)
    if found != made:
        raise DigestMismatchError(
            str(path),
            "does not hold the bytes that were trained and evaluated",
            expected=f"the digest {made}",
            got=found,
            remedy=f"Remove the folder {model.uri}: the next run trains anew.",
        )
    return found


def _figures(artifact: Any, digest: str) -> Figures:
    """What a node measured, which has to be of the candidate's bytes."""
    file = Path(artifact.uri, FIGURES_FILE)
    remedy = f"Remove the folder {artifact.uri}: the next run measures anew."
    try:
        figures = Figures.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        text = " ".join(str(error).split())
        raise NotAPayloadError(str(file), "holds no figures", expected="a record", got=text, remedy=remedy) from error
    if figures.candidate != digest:
        raise DigestMismatchError(
            str(file),
            "does not hold the figures of the candidate",
            expected=f"figures of the digest {digest}",
            got=figures.candidate,
            remedy=remedy,
        )
    return figures


def _head(pushed: Any | None) -> int | None:
    """The newest version when the champion was looked up; None where its record does not tell."""
    if pushed is None:
        return 0
    noted = pushed.custom_properties["head"].int_value
    if noted or pushed.custom_properties["act"].string_value == "label_rollback":
        return noted or None
    return int(pushed.custom_properties["version"].int_value)


def _champion(pushed: Any | None, measured: list[Figures], accepted: str) -> Champion | None:
    """The champion, from the push record that the resolver found; its figures where it was measured."""
    if pushed is None:
        return None
    digest = pushed.custom_properties["digest"].string_value
    figures = [figure for one in measured for figure in one.of(digest)]
    why_not = "; ".join(one.why_no_champion for one in measured if one.why_no_champion)
    return Champion(digest, pushed.custom_properties["version"].int_value, figures, why_not, accepted)


def bless(blessing: Any, model: Any, *, blessed: bool) -> None:
    """Writes what TFX's own resolvers read.

    Args:
        blessing: a ModelBlessing artifact, an `ml_metadata` proto.
        model: the candidate.
        blessed: whether it is admitted.
    """
    blessing.custom_properties[_MODEL_URI].string_value = model.uri
    blessing.custom_properties[_MODEL_ID].int_value = model.id
    blessing.custom_properties[_BLESSED].int_value = int(blessed)
    write_file(blessing, _FILES[blessed], "")
