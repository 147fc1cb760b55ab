"""The artifact types of our own in ML Metadata: decisions and profiles, beside TFX's standard artifacts.

Each artifact is a folder with one JSON file, named by `*_FILE`, that holds a record of `schemas.decision`. The
properties repeat what a resolver or a condition in the graph has to read.
"""

from tfx.types import artifact

__all__ = ["DataDecision", "Decision", "Profile", "TFLiteModels"]


class Decision(artifact.Artifact):
    """All the verdicts on one candidate (`schemas.decision.Decision`).

    Properties: `outcome` (`push`, `block`, `pending`, `already_served`), `digest` of the candidate's payload.
    """

    TYPE_NAME = "Decision"
    PROPERTIES = {
        "outcome": artifact.Property(type=artifact.PropertyType.STRING),
        "digest": artifact.Property(type=artifact.PropertyType.STRING),
    }


class DataDecision(artifact.Artifact):
    """What the data gate decided (`schemas.decision.DataDecision`).

    Properties: `proceed`, 1 or 0, which the graph's condition reads.
    """

    TYPE_NAME = "DataDecision"
    PROPERTIES = {
        "outcome": artifact.Property(type=artifact.PropertyType.STRING),
        "proceed": artifact.Property(type=artifact.PropertyType.INT),
    }


class Profile(artifact.Artifact):
    """What was measured of the payloads themselves: latency, size, memory, parity (`schemas.decision.Figures`).

    Properties: `digest` of the candidate's payload.
    """

    TYPE_NAME = "Profile"
    PROPERTIES = {"digest": artifact.Property(type=artifact.PropertyType.STRING)}


class TFLiteModels(artifact.Artifact):
    """The `.tflite` files made of a model, and their record (`schemas.tflite.Export`).

    Properties: `digest` of the SavedModel that they are made of.
    """

    TYPE_NAME = "TFLiteModels"
    PROPERTIES = {"digest": artifact.Property(type=artifact.PropertyType.STRING)}
