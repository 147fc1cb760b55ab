"""A systemd service and timer that tick in the place of the loop. Pure text."""

from __future__ import annotations

from pathlib import Path

from schemas.config import ScheduleConfig, seconds_of

__all__ = ["units"]


def units(name: str, schedule: ScheduleConfig, command: list[str], folder: Path) -> dict[str, str]:
    """File name to content: the service, and the timer that starts it.

    Args:
        name: of the pipeline.
        schedule: the configuration's section; its `every` is the timer's.
        command: of one tick, with absolute paths.
        folder: where it runs.
    """
    unit = f"satisfice-{name}"
    service = f"""[Unit]
Description=A tick of the schedule of the pipeline {name}

[Service]
Type=oneshot
WorkingDirectory={_escaped(str(folder))}
ExecStart={" ".join(_quoted(word) for word in command)}
# A tick whose run was blocked, or waits for approval, did its work.
SuccessExitStatus=3 4
# A run that is told to end saves first, and the next tick goes on with it.
TimeoutStartSec=infinity
TimeoutStopSec=10min
KillMode=mixed
"""
    timer = f"""[Unit]
Description=The schedule of the pipeline {name}

[Timer]
OnBootSec=1min
OnUnitInactiveSec={seconds_of(schedule.every)}s
Unit={unit}.service

[Install]
WantedBy=timers.target
"""
    return {f"{unit}.service": service, f"{unit}.timer": timer}


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(word: str) -> str:
    """As systemd.syntax(7) and systemd.service(5) have it: `%` and `$` stand for themselves when they are doubled."""
    text = _escaped(word).replace("$", "$$").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
