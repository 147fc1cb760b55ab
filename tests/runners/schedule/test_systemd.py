"""The units that are rendered: what systemd would read, and that nothing in a path can change their meaning."""

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from runners.schedule.systemd import units
from schemas.config import ScheduleConfig

SCHEDULE = ScheduleConfig.model_validate({"triggers": {"changed_data": True}, "every": "30m"})


def test_units():
    """A one-shot service with quoted words, and a timer that starts it."""
    files = units("taxi", SCHEDULE, ["/usr/bin/python3", "-m", "runners.cli", "/a b/100%$x.yaml"], Path("/a b"))
    assert sorted(files) == ["satisfice-taxi.service", "satisfice-taxi.timer"]
    service, timer = (configparser.RawConfigParser() for _ in files)
    service.read_string(files["satisfice-taxi.service"])
    timer.read_string(files["satisfice-taxi.timer"])
    assert service["Service"]["ExecStart"] == '"/usr/bin/python3" "-m" "runners.cli" "/a b/100%%$$x.yaml"'
    assert service["Service"]["SuccessExitStatus"] == "3 4"
    assert timer["Timer"]["OnUnitInactiveSec"] == "1800s"
    assert timer["Timer"]["Unit"] == "satisfice-taxi.service"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
def test_systemd_takes_them(tmp_path):
    """Its own check finds no fault."""
    for name, text in units("taxi", SCHEDULE, ["/bin/true"], tmp_path).items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", *map(str, tmp_path.iterdir())], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
