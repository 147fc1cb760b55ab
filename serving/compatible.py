"""Whether a server of some version can be expected to load what a TensorFlow has exported. No TensorFlow."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

__all__ = ["Compatibility", "compatible"]

_VERSION = re.compile(r"(\d+)\.(\d+)")


@dataclass(frozen=True)
class Compatibility:
    """What is to be expected.

    Attributes:
        verdict: `loads`; `may_not` where TensorFlow promises nothing; `does_not`.
        reason: in one sentence; "" where it loads.
    """

    verdict: Literal["loads", "may_not", "does_not"]
    reason: str = ""


def compatible(exported_with: str, server: str) -> Compatibility:
    """Whether a server loads a SavedModel.

    TensorFlow loads what an older release of the same major version has saved. It promises nothing the other way round:
    a newer release's SavedModel loads unless its graph uses an operator or an attribute that the older one lacks (defaults
    are left out when it is saved), which nobody can tell from the version alone; a server that is asked
    (`push.serving.confirm`) can. TF Serving is numbered as the TensorFlow that it is built of.

    Args:
        exported_with: TensorFlow's version, as it stands in the SavedModel.
        server: TF Serving's version, as `push.serving.server_version` has it.

    >>> compatible("2.19.1", "2.20").verdict, compatible("2.21.0", "2.20").verdict, compatible("3.0.0", "2.20").verdict
    ('loads', 'may_not', 'does_not')
    """
    ours, theirs = _VERSION.match(exported_with), _VERSION.match(server)
    if ours is None or theirs is None:
        return Compatibility(
            "may_not",
            f"the SavedModel says that TensorFlow {exported_with or '(nothing)'} wrote it: nothing to compare",
        )
    (major, minor), (server_major, server_minor) = (tuple(map(int, one.groups())) for one in (ours, theirs))
    if major != server_major:
        reason = f"it was written by TensorFlow {exported_with}, and TF Serving {server} is of another major version"
        return Compatibility("does_not" if major > server_major else "may_not", reason)
    if minor > server_minor:
        reason = (
            f"it was written by TensorFlow {exported_with}, which is newer than TF Serving {server}: it does not load"
            " there if it uses an operator or attribute that came later; push.serving.confirm would ask the server"
        )
        return Compatibility("may_not", reason)
    return Compatibility("loads")
