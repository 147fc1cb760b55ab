"""Load through a load balancer on two servers, with a publish, a roll-back and a `kill -9`, into `RESULTS.md`.

    python -m bench.serving_load [--seconds 60] [--canary 5000] [--seed 7]

The servers are `satisfice serve` on one directory; HAProxy and nginx run on what `satisfice deploy render` writes, both
at once. Clients try nothing twice, but for those over gRPC through nginx, which have the retry policy of gRPC.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.fleet import Answer, Balancer, Fleet, Load, ask_rest, until, write_version
from bench.results import machine, table, write_section

__all__ = ["HEADER", "NEW", "OLD", "Share", "Trial", "main", "run_trial"]

OLD, NEW = 10.0, 20.0
"""What the two models add."""

HEADER = "X-User-Id"
_AFTER_THE_KILL = 100
"""Requests over each way, at least, that find one server dead."""
_SPREAD = 5
"""Standard deviations that a share may be off."""


@dataclass(frozen=True)
class Share:
    """How many of the requests that name no version met the canary.

    Attributes:
        asked, met: requests, and those that the canary answered.
        expected: the share that was rendered.
        failed: requests that failed.
        sticky: whether each value of the header met one of the two alone.
    """

    asked: int
    met: int
    expected: float
    failed: int
    sticky: bool

    @property
    def is_fair(self) -> bool:
        """Whether it is off by no more than chance explains."""
        deviation = math.sqrt(self.asked * self.expected * (1 - self.expected))
        return abs(self.met - self.asked * self.expected) <= _SPREAD * deviation


@dataclass
class Trial:
    """What happened.

    Attributes:
        loads: by load balancer.
        shares: the canary's, by load balancer.
        events: when something was done, in seconds since the load began.
        seen_s: from a publish or roll-back until both faces had answers from it.
    """

    loads: dict[str, Load]
    shares: dict[str, Share] = field(default_factory=dict)
    events: dict[str, float] = field(default_factory=dict)
    seen_s: dict[str, float] = field(default_factory=dict)

    @property
    def failed(self) -> dict[str, list[Answer]]:
        """The requests that failed, by load balancer."""
        return {name: load.failed for name, load in self.loads.items()}


def run_trial(
    fleet: Fleet,
    payload: Path,
    *,
    seconds: float,
    canary: int,
    seed: int = 7,
    share: float = 0.1,
    restarts: bool = True,
) -> Trial:
    """Runs a load, and does what people and machines do to servers meanwhile.

    Args:
        fleet: that serves a model which adds `OLD`, as version 1.
        payload: a model that adds `NEW`.
        seconds: of the load, at least; what is waited for may take longer.
        canary: requests that measure the canary's share, for each load balancer.
        seed: of the clients' pauses.
        share: the canary's.
        restarts: whether the server that is killed is started again under load.
    """
    balancers = {"haproxy": fleet.balance("haproxy"), "nginx": fleet.balance("nginx")}
    loads = {
        name: Load(balancer.grpc, balancer.rest, seed=seed, retries=name == "nginx")
        for name, balancer in balancers.items()
    }
    trial = Trial(loads)
    with loads["haproxy"] as first, loads["nginx"]:
        _at(first, 0.1 * seconds)
        _switch(trial, "publish", NEW, lambda: fleet.publish(payload))
        _at(first, 0.3 * seconds)
        _switch(trial, "roll-back", OLD, lambda: fleet.store.rollback(1, by="bench", reason="drill"))
        trial.events["labels"] = first.elapsed_s
        for label, version in (("stable", 1), ("canary", 2)):
            fleet.store.begin_label(label, version)
            fleet.store.finish_label(label, version)
        until(lambda: fleet.has_label("stable") and fleet.has_label("canary"))
        trial.shares = _shares(fleet, share, canary)
        _at(first, 0.7 * seconds)
        trial.events["kill -9"] = first.elapsed_s
        fleet.kill(1)
        if restarts:
            fleet.restart(1)
        _at(first, max(seconds, trial.events["kill -9"] + 0.2 * seconds))
        until(lambda: all(each.answered(trial.events["kill -9"]) >= _AFTER_THE_KILL for each in loads.values()))
    return trial


def _at(load: Load, elapsed_s: float) -> None:
    time.sleep(max(0.0, elapsed_s - load.elapsed_s))


def _switch(trial: Trial, name: str, adds: float, act: Callable[[], object]) -> None:
    """Does it, and waits until every client over every way has an answer of the new version."""
    load = trial.loads["haproxy"]
    began = trial.events[name] = load.elapsed_s
    act()
    until(lambda: all(each.has_seen(adds, began) for each in trial.loads.values()))
    trial.seen_s[name] = load.elapsed_s - began


def _shares(fleet: Fleet, share: float, count: int) -> dict[str, Share]:
    overrides = [f"serving.canary={{share: {share}, header: {HEADER}}}"]
    balancers = {kind: fleet.balance(kind, *overrides) for kind in ("haproxy", "nginx")}
    return {kind: _share(balancer, share, count) for kind, balancer in balancers.items()}


def _share(balancer: Balancer, share: float, count: int) -> Share:
    adds = ask_rest(balancer.rest, [{}] * count)
    users = [f"user-{number}" for number in range(100)]
    random.Random(7).shuffle(users)  # noqa: S311 - no secret
    twice = [ask_rest(balancer.rest, [{HEADER: user} for user in users]) for _ in range(2)]
    both = {OLD, NEW} == set(twice[0])
    return Share(count, adds.count(NEW), share, adds.count(None), both and twice[0] == twice[1])


# --- the report -------------------------------------------------------------------------------------------------------


def _report(trial: Trial, command: str) -> str:
    rows = []
    for name, load in trial.loads.items():
        for face in ("grpc", "rest"):
            found = [answer for answer in load.answers if answer.face == face]
            took = sorted(answer.took_s * 1000 for answer in found if answer.adds is not None)
            failed = sum(answer.adds is None for answer in found)
            rows.append(
                [
                    f"{name}, {'gRPC' if face == 'grpc' else 'REST'}",
                    f"{len(found):,}",
                    f"**{failed}**",
                    f"{statistics.median(took):.1f}",
                    f"{took[int(0.99 * (len(took) - 1))]:.1f}",
                    f"{took[-1]:.0f}",
                ]
            )
    shares = [
        f"{name}: {one.met:,} of {one.asked:,} ({one.met / one.asked:.2%}, rendered {one.expected:.0%},"
        f" {one.failed} failed, the same user the same model: {'yes' if one.sticky else 'NO'})"
        for name, one in trial.shares.items()
    ]
    events = ", ".join(f"{name} at {at_s:.0f} s" for name, at_s in trial.events.items())
    seen = ", ".join(f"{name} {took_s:.1f} s" for name, took_s in trial.seen_s.items())
    return "\n".join(
        [
            "## Servers behind a load balancer",
            "",
            f"`{command}`; {machine()}. Two `satisfice serve` on one directory; {events}; the killed server is started"
            " again. Clients in Python share the machine, eight for each load balancer; over gRPC through nginx they"
            f" have gRPC's retry policy, the others try nothing twice. Until every way had answers of it: {seen}.",
            "",
            table(["", "requests", "failed", "p50, ms", "p99, ms", "longest, ms"], rows),
            "",
            f"Canary: {'; '.join(shares)}.",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 1 where a request failed or a share is off."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.serving_load", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--canary", type=int, default=5000, help="requests that measure its share")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--no-write", action="store_true", help="leave RESULTS.md alone")
    options = parser.parse_args(arguments)
    for name in ("haproxy", "nginx"):
        if shutil.which(name) is None:
            parser.exit(2, f"{name} is not installed: apt-get install --no-install-recommends {name}\n")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryDirectory(prefix="bench-serving-load-") as work, Fleet(Path(work)) as fleet:
        fleet.publish(write_version(Path(work, "old"), OLD))
        new = write_version(Path(work, "new"), NEW)
        fleet.start()
        trial = run_trial(fleet, new, seconds=options.seconds, canary=options.canary, seed=options.seed)
    command = (
        f"python -m bench.serving_load --seconds {options.seconds:g} --canary {options.canary} --seed {options.seed}"
    )
    text = _report(trial, command)
    print(text)
    for answers in trial.failed.values():
        for answer in answers[:20]:
            print(f"failed: {answer}")
    if not options.no_write:
        write_section("serving-load", text)
    sound = not any(trial.failed.values()) and all(
        one.is_fair and one.sticky and not one.failed for one in trial.shares.values()
    )
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
