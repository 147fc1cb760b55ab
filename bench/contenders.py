"""Who is measured, and how long each one trains."""

from __future__ import annotations

__all__ = [
    "BARE_EPOCH",
    "BARE_STEPS",
    "EPOCH_BATCH",
    "OURS",
    "OURS_EPOCH",
    "OURS_STEPS",
    "STEPS",
    "STEPS_BATCH",
    "STOCK",
    "TITLES",
]

STEPS, STEPS_BATCH = 1000, 40
EPOCH_BATCH = 1024

STOCK = "stock"
OURS, OURS_STEPS, OURS_EPOCH = "ours", "ours-steps", "ours-epoch"
BARE_STEPS, BARE_EPOCH = "bare-steps", "bare-epoch"
_IN_STEPS, _IN_EPOCH = f"{STEPS:,} steps of {STEPS_BATCH}", f"one epoch, batch {EPOCH_BATCH:,}"
TITLES = {
    STOCK: f"stock TFX, {_IN_STEPS}",
    OURS_STEPS: f"ours, {_IN_STEPS}",
    BARE_STEPS: f"hand-written, {_IN_STEPS}",
    OURS_EPOCH: f"ours, {_IN_EPOCH}",
    BARE_EPOCH: f"hand-written, {_IN_EPOCH}",
    OURS: "ours, as configured",
}
"""In the order of the tables."""
