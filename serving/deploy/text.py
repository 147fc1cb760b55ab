"""How values are written: YAML, and Kubernetes' quantities as numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import yaml

from schemas.errors import ConfigError, Fault

__all__ = ["HEADER", "as_yaml", "bytes_of", "cores_of", "seconds_of"]

HEADER = "# Rendered by `satisfice deploy render`.\n"

_FACTORS = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    **{unit: Decimal(1000) ** power for power, unit in enumerate(("k", "M", "G", "T", "P"), start=1)},
    **{unit: Decimal(1024) ** power for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi"), start=1)},
}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class _Dumper(yaml.SafeDumper):
    """Writes several lines of text as a block, and repeats what stands twice instead of referring to it."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def as_yaml(*documents: object) -> str:
    """One or several YAML documents, keys in the order in which they were given."""
    texts: Sequence[str] = [
        yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000) for document in documents
    ]
    return HEADER + "---\n".join(texts)


def bytes_of(quantity: int | str) -> int:
    """Bytes in a quantity of memory.

    Raises:
        ConfigError: it is none.

    >>> bytes_of("2Gi"), bytes_of("500M"), bytes_of(7)
    (2147483648, 500000000, 7)
    """
    return int(_number(quantity))


def cores_of(quantity: int | str) -> float:
    """Cores in a quantity of CPU.

    Raises:
        ConfigError: it is none.

    >>> cores_of("500m"), cores_of(2)
    (0.5, 2.0)
    """
    return float(_number(quantity))


def seconds_of(duration: str) -> int:
    """Seconds in a duration.

    >>> seconds_of("5m")
    300
    """
    return int(duration[:-1]) * _SECONDS[duration[-1]]


def _number(quantity: int | str) -> Decimal:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([A-Za-z]*)", str(quantity))
    if match is None or match[2] not in _FACTORS:
        expected = "a number with a unit of Kubernetes, such as '8Gi' or '500m'"
        raise ConfigError("serving", [Fault("resources", "holds what is no quantity", expected, str(quantity))])
    return Decimal(match[1]) * _FACTORS[match[2]]
