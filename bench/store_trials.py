"""Two trials of the version store, both seeded:

- *load*: several processes publish, roll back and remove versions in one base path, while readers poll it as TF Serving
  does: take the largest number, and load what lies there. A payload here names its own files with their sums, so that a
  reader can tell a whole one from a half one without the store's help.
- *kills*: a publisher is killed with SIGKILL at a random moment of its publish, again and again; after each, the base
  path is checked, and the next publish has to succeed.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from schemas.errors import RolledBackError, StoreError
from serving.payload import digest
from serving.store import VersionStore, find, version_number

__all__ = ["Kills", "Load", "Look", "look", "make_payload", "run_kills", "run_load"]

_POOL = 40
_KEEP = 5
_ROLLBACKS = 0.3
_RETENTIONS = 0.1
_PAUSE_S = 0.005


@dataclass(frozen=True)
class Look:
    """What a reader found when it took the latest version, as TF Serving does.

    Attributes:
        number: its number; None for an empty base path.
        content: the digest of its files, as they were read; "" where it vanished meanwhile or was incomplete.
        fault: what was wrong; "" where nothing was.
    """

    number: int | None
    content: str = ""
    fault: str = ""


def make_payload(folder: Path, name: str, files: int = 4, file_bytes: int = 4096) -> Path:
    """A directory that passes for a SavedModel; its `saved_model.pb` lists its other files with their sums."""
    (folder / "variables").mkdir(parents=True)
    sums = {}
    for number in range(files):
        content = hashlib.sha256(f"{name} {number}".encode()).digest() * (file_bytes // 32)
        (folder / "variables" / f"shard-{number}").write_bytes(content)
        sums[f"variables/shard-{number}"] = hashlib.sha256(content).hexdigest()
    (folder / "saved_model.pb").write_text(json.dumps({"name": name, "files": sums}))
    return folder


def look(base: Path) -> Look:
    """Polls a base path once. A version that is taken out of it while it is read has vanished, and is no fault."""
    numbers = [number for name in os.listdir(base) if (number := version_number(name)) is not None]
    if not numbers:
        return Look(None)
    newest = max(numbers)
    path = base / str(newest)
    try:
        described = (path / "saved_model.pb").read_bytes()
        for file, expected in json.loads(described)["files"].items():
            if hashlib.sha256((path / file).read_bytes()).hexdigest() != expected:
                return Look(newest, fault=f"{file} holds other bytes")
    except (OSError, ValueError) as error:
        return Look(newest, fault=f"{type(error).__name__}: {error}" if path.exists() else "")
    return Look(newest, hashlib.sha256(described).hexdigest())


# --- load -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Load:
    """What came of publishes and rollbacks by several processes.

    Attributes:
        versions: how many were published.
        rollbacks: how many of these by a rollback.
        removed: how many retention removed.
        looks: how often readers looked, all together.
        distinct: how many versions they saw.
        vanished: how often the version was removed while it was read.
        incomplete: what readers found wrong, each fault once.
        twice: numbers that were given out twice, or under which readers saw two contents.
        backwards: how often the latest version of a reader's look was older than that of its look before.
        findings: what `fsck` found at the end.
        seconds: wall time.
    """

    versions: int
    rollbacks: int
    removed: int
    looks: int
    distinct: int
    vanished: int
    incomplete: tuple[str, ...]
    twice: tuple[int, ...]
    backwards: int
    findings: tuple[str, ...]
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether everything was as it should be."""
        return not (self.incomplete or self.twice or self.backwards or self.findings)


def run_load(folder: Path, versions: int, writers: int = 4, readers: int = 2, seed: int = 0) -> Load:
    """Publishes and rolls back in `folder / "base"` until there have been `versions` versions.

    Args:
        folder: an empty one.
        versions: how many, shared out among the writers.
        writers, readers: how many processes.
        seed: of what each writer does.
    """
    base = folder / "base"
    base.mkdir()
    pool = [str(make_payload(folder / "pool" / str(number), f"payload {number}")) for number in range(_POOL)]
    context = _processes()
    results, stop = context.Queue(), context.Event()
    watching = [context.Process(target=_read, args=(str(base), stop, results)) for _ in range(readers)]
    each = [versions // writers + (which < versions % writers) for which in range(writers)]
    writing = [
        context.Process(target=_write, args=(str(base), pool, count, seed + which, results))
        for which, count in enumerate(each)
    ]
    started = time.monotonic()
    for process in watching + writing:
        process.start()
    written = [results.get() for _ in writing]
    seconds = time.monotonic() - started
    stop.set()
    read = [results.get() for _ in watching]
    for process in watching + writing:
        process.join()
    return _sum_up(base, written, read, seconds)


def _write(base: str, pool: list[str], count: int, seed: int, results: Any) -> None:
    """One writer: publishes, rolls back and removes until it has made `count` versions."""
    chance = random.Random(seed)  # noqa: S311 - what a trial does, not a secret
    digests = {path: digest(path) for path in pool}
    store = VersionStore(base, lock_timeout_s=600)
    numbers, rollbacks, removed = [], 0, 0
    while len(numbers) < count:
        back = chance.random() < _ROLLBACKS and len(store.versions()) > 1
        try:
            if back:
                done = store.rollback(chance.choice(store.versions()), by=f"writer {seed}", reason="trial")
            else:
                path = chance.choice(pool)
                done = _publish_allowed(store, path, digests[path])
        except StoreError as error:
            if not error.problem.endswith(("removed by retention", f"is not in {base}")):
                raise
            continue
        if done.outcome == "pushed":
            numbers.append(done.version)
            rollbacks += back
        if chance.random() < _RETENTIONS:
            removed += len(store.retain(_KEEP))
    results.put(("written", numbers, rollbacks, removed))


def _publish_allowed(store: VersionStore, path: str, wanted: str) -> Any:
    try:
        return store.publish(path, wanted, {})
    except RolledBackError:
        try:
            store.allow(wanted)
        except StoreError:  # another writer did
            return _publish_allowed(store, path, wanted)
        return _publish_allowed(store, path, wanted)


def _read(base: str, stop: Any, results: Any) -> None:
    """One reader: looks again and again until it is stopped."""
    contents: dict[int, set[str]] = {}
    faults: Counter[str] = Counter()
    looks = vanished = backwards = last = 0
    while not stop.wait(_PAUSE_S):
        found = look(Path(base))
        looks += 1
        if found.number is None:
            continue
        backwards += found.number < last
        last = found.number
        if found.fault:
            faults[f"version {found.number}: {found.fault}"] += 1
        elif not found.content:
            vanished += 1
        else:
            contents.setdefault(found.number, set()).add(found.content)
    results.put(("read", looks, vanished, backwards, dict(faults), contents))


def _sum_up(base: Path, written: Sequence[Any], read: Sequence[Any], seconds: float) -> Load:
    given = Counter(number for _, numbers, _, _ in written for number in numbers)
    seen: dict[int, set[str]] = {}
    for *_, contents in read:
        for number, found in contents.items():
            seen.setdefault(number, set()).update(found)
    twice = {number for number, times in given.items() if times > 1} | {
        n for n, found in seen.items() if len(found) > 1
    }
    return Load(
        versions=sum(given.values()),
        rollbacks=sum(one[2] for one in written),
        removed=sum(one[3] for one in written),
        looks=sum(one[1] for one in read),
        distinct=len(seen),
        vanished=sum(one[2] for one in read),
        incomplete=tuple(sorted({fault for one in read for fault in one[4]})),
        twice=tuple(sorted(twice)),
        backwards=sum(one[3] for one in read),
        findings=tuple(f"{finding.path}: {finding.problem}" for finding in find(base)),
        seconds=seconds,
    )


# --- kills ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kills:
    """What came of publishers that were killed.

    Attributes:
        kills: how many publishers got SIGKILL while they were at work.
        late: how many had ended before.
        visible: after how many of the kills the new version was visible, whole.
        leftovers: after how many a staging folder was left, which the next publish removed.
        broken: what was wrong after a kill, or with the publish that followed; empty where nothing was.
        span_ms: how long an undisturbed publish takes.
    """

    kills: int
    late: int
    visible: int
    leftovers: int
    broken: tuple[str, ...]
    span_ms: float


def run_kills(folder: Path, kills: int, seed: int = 0, file_bytes: int = 1 << 20) -> Kills:
    """Kills `kills` publishers, each at a random moment of the time that a publish takes.

    Args:
        folder: an empty one.
        kills: how many that were at work when the signal came.
        seed: of the moments.
        file_bytes: size of each of a payload's files.
    """
    base = folder / "base"
    chance = random.Random(seed)  # noqa: S311 - moments of a trial, not a secret
    store = VersionStore(base)
    payloads = [make_payload(folder / name, name, file_bytes=file_bytes) for name in ("one", "two", "three")]
    digests = [digest(path) for path in payloads]
    span = median(_timed_publish(store, payloads[which % 3], digests[which % 3]) for which in range(6))
    done = late = visible = leftovers = 0
    broken: list[str] = []
    context = _processes()
    while done < kills:
        before = store.versions()
        which = chance.randrange(3)
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_publish_once, args=(str(base), str(payloads[which]), digests[which], sender))
        process.start()
        receiver.recv()
        time.sleep(chance.uniform(0, 1.3 * span))
        process.kill()
        process.join()
        killed = process.exitcode == -9
        done, late = done + killed, late + (not killed)
        broken += [f"kill {done}: {said}" for said in _half_versions(base)]
        visible += killed and len(store.versions()) > len(before)
        leftovers += killed and any(base.glob(".staging-*"))
        broken += [f"after kill {done}: {said}" for said in _next_publish(store, payloads, digests)]
    return Kills(done, late, visible, leftovers, tuple(broken), span * 1000)


def _publish_once(base: str, payload: str, wanted: str, ready: Any) -> None:
    store = VersionStore(base)
    ready.send(True)
    store.publish(payload, wanted, {})


def _half_versions(base: Path) -> list[str]:
    """What is wrong with what a server would see."""
    wrong = ("half_version", "digest_mismatch", "foreign_entry", "foreign_version", "spelling_collision")
    found = look(base)
    seen = [f"a reader found version {found.number}: {found.fault}"] if found.fault else []
    return seen + [f"{one.path}: {one.problem}" for one in find(base) if one.kind in wrong]


def _next_publish(store: VersionStore, payloads: Sequence[Path], digests: Sequence[str]) -> list[str]:
    """Publishes what is not the newest, keeps three versions, and says what was wrong."""
    newest = store.newest()
    which = next(number for number in range(3) if newest is None or newest.digest != digests[number])
    try:
        published = store.publish(payloads[which], digests[which], {})
        store.verify(published.version)
        store.retain(3)
    except StoreError as error:
        return [str(error)]
    left = [str(path) for path in store.base_path.glob(".[st]*-*")]
    return [f"left behind: {', '.join(left)}"] if left else []


def _timed_publish(store: VersionStore, payload: Path, wanted: str) -> float:
    started = time.monotonic()
    store.publish(payload, wanted, {})
    return time.monotonic() - started


def _processes() -> Any:
    """Processes forked from one that has imported this module and nothing else, whatever the caller has imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context
