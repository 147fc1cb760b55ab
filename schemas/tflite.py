"""What was converted for devices: the record of an export, one entry for each variant of the `.tflite` ladder."""

from __future__ import annotations

from typing import get_args

from pydantic import BaseModel, ConfigDict

from schemas.config import Takes, Variant

__all__ = ["EXPORT_FILE", "VARIANTS", "Export", "Takes", "TensorRecord", "Variant", "VariantRecord"]

EXPORT_FILE = "tflite_export.json"
"""Name of the record in its artifact; each variant stands beside it as `VARIANT/model.tflite`."""

VARIANTS: tuple[Variant, ...] = get_args(Variant)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TensorRecord(_Record):
    """An argument or a result of a call.

    Attributes:
        shape: -1 where any size goes (the first one is the batch).
        scale, zero_point: `real = scale * (integer - zero_point)`; None where the tensor holds the values themselves.
    """

    dtype: str
    shape: tuple[int, ...]
    scale: float | None = None
    zero_point: int | None = None


class VariantRecord(_Record):
    """One `.tflite` file, or why there is none.

    Attributes:
        problems: why the file must not ship, each with what to do about it; empty where nothing is wrong with it.
        notes: what a reader should know beside that.
        digest: of the payload; "" where no file was made.
        size_bytes, compressed_bytes: of the file, plain and packed with gzip.
        operators: name to how often it occurs; what a runtime built with selected operators must hold.
        custom: operators that a plain runtime has no kernel for.
        needs_flex: True where some of them are TensorFlow's own.
        fused: operators with the activation that runs inside them, and how often.
        folded: TensorFlow's operators that were merged into others (batch normalization into the weights).
        inputs, outputs: of a call, by name.
        seconds: that the conversion took.
    """

    variant: Variant
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    digest: str = ""
    size_bytes: int = 0
    compressed_bytes: int = 0
    operators: dict[str, int] = {}
    custom: tuple[str, ...] = ()
    needs_flex: bool = False
    fused: dict[str, int] = {}
    folded: tuple[str, ...] = ()
    inputs: dict[str, TensorRecord] = {}
    outputs: dict[str, TensorRecord] = {}
    seconds: float = 0.0

    @property
    def shippable(self) -> bool:
        """True where nothing that is known speaks against it."""
        return bool(self.digest) and not self.problems


class Export(_Record):
    """The ladder that was made of one SavedModel.

    Attributes:
        saved_model: digest of the SavedModel.
        takes: `transformed`: a device computes the transformed features first; `raw`: the file holds the preprocessing.
        before_calling: what a device has to compute before it calls the file, one sentence for each feature.
        representative_rows: rows of the train split by which ranges of activations were found.
        variants: in the order of the configuration.
    """

    saved_model: str
    takes: Takes
    before_calling: tuple[str, ...]
    representative_rows: int
    variants: tuple[VariantRecord, ...]

    def of(self, variant: str) -> VariantRecord | None:
        """The record of a variant."""
        return next((one for one in self.variants if one.variant == variant), None)
