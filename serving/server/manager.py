"""Which versions of which models are loaded: watches directories, loads what is wanted, unloads what is not.

Two ways of doing it. The strict one is TF Serving's, with its hazards: whatever has a number for a name is a version;
one model whose base path is missing keeps all models from being updated; an empty base path unloads everything; a
version that failed is not tried again while it lies there; a restart knows nothing of the version that served before.
The other one, the default, differs where that hurts: models do not wait for each other; a base path that is empty or
gone changes nothing; a version that does not load is passed over for the next lower one, also at the start, and is
tried again when its files change.

In both, a version is unloaded only after another that is wanted is there to take its place.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from serving.server.config import ModelConfig, changed_platforms
from serving.server.model import LoadedModel
from serving.server.status import Code, Refusal

__all__ = ["Manager", "Options", "State", "VersionStatus", "version_number"]

_LOG = logging.getLogger(__name__)
_INT64 = 1 << 63
_UNLOAD_THREADS = 32
"""Versions of one model that wait at the same time for their last requests to end."""

State = Literal["START", "LOADING", "AVAILABLE", "UNLOADING", "END"]
Load = Callable[[ModelConfig, int, Path], LoadedModel]
"""Loads a version and warms it up, or raises `Refusal`."""
Unload = Callable[[LoadedModel], None]
"""Gives back all that a version holds, once no request runs on it."""


@dataclass(frozen=True)
class Options:
    """How versions are watched and loaded.

    Attributes:
        strict: TF Serving's exact behaviour.
        poll_s: seconds between two looks at the base paths; 0 looks once.
        load_retries: further attempts at a version that does not load.
        retry_interval_s: seconds between them.
        load_threads: versions of one model that load at the same time; the strict manager loads all models' versions one
            after the other.
        new_labels_may_wait: a new label may point at a version that is not available yet.
        start_timeout_s: how long a configuration may wait for its models.
    """

    strict: bool = False
    poll_s: float = 1.0
    load_retries: int = 5
    retry_interval_s: float = 60.0
    load_threads: int = 2
    new_labels_may_wait: bool = True
    start_timeout_s: float = 300.0


@dataclass(frozen=True)
class VersionStatus:
    """What is known of a version.

    Attributes:
        version: its number.
        state: where it stands.
        code, message: of the error for which it ended; OK and "" where there is none.
    """

    version: int
    state: State
    code: Code | Literal["OK"] = "OK"
    message: str = ""


@dataclass
class _Version:
    """A version as the manager sees it.

    Attributes:
        files: what its directory looked like when it was last tried.
        attempts: how often it was tried.
        tried_at: when, in seconds of the monotonic clock.
    """

    state: State = "START"
    code: Code | Literal["OK"] = "OK"
    message: str = ""
    model: LoadedModel | None = None
    files: tuple[object, ...] = ()
    attempts: int = 0
    tried_at: float = 0.0

    @property
    def failed(self) -> bool:
        return self.state == "END" and self.code != "OK"


class _Workers:
    """Threads of one model, so that a load or a request that never ends holds up no other model.

    Without threads for unloading those that load do it, one after the other, as the original.
    """

    def __init__(self, load_threads: int, unload_threads: int = _UNLOAD_THREADS) -> None:
        self.loaders = ThreadPoolExecutor(load_threads, "loader")
        self.unloaders = ThreadPoolExecutor(unload_threads, "unloader") if unload_threads else self.loaders

    def shutdown(self, *, wait: bool) -> None:
        for pool in (self.loaders, self.unloaders):
            pool.shutdown(wait=wait, cancel_futures=wait)


@dataclass
class _Model:
    """A model as the manager sees it.

    Attributes:
        workers: that load and unload its versions.
        was_ready: whether once all wanted versions were available; what loads later takes nothing away from it.
        dropped: whether it has left the configuration; what still loads then is unloaded at once.
    """

    config: ModelConfig
    workers: _Workers
    versions: dict[int, _Version] = field(default_factory=dict)
    wanted: list[int] = field(default_factory=list)
    was_ready: bool = False
    dropped: bool = False

    @property
    def available(self) -> list[int]:
        return [number for number, version in self.versions.items() if version.state == "AVAILABLE"]


class Manager:
    """The versions of all models. Safe to use from several threads."""

    def __init__(
        self, load: Load, unload: Unload, options: Options, on_change: Callable[[str, VersionStatus], None]
    ) -> None:
        """Begins with no models; `reload` gives it some.

        Args:
            load: loads a version.
            unload: unloads one.
            options: of watching and loading.
            on_change: is told of each change of state, with the model's name.
        """
        self._load_version = load
        self._unload_version = unload
        self._options = options
        self._on_change = on_change
        self._models: dict[str, _Model] = {}
        self._configured = False
        self._revision = 0
        self._labels: dict[str, dict[str, int]] = {}
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._polling = threading.Lock()
        self._reloading = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._shared = _Workers(1, 0) if options.strict else None
        self._poller: threading.Thread | None = None

    # --- what requests ask ----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def use(self, name: str, version: int | None = None, label: str | None = None) -> Iterator[LoadedModel]:
        """A loaded version, which stays loaded as long as it is used: the one asked for, else the highest available.

        Raises:
            Refusal: there is none, in TF Serving's words.
        """
        with self._lock:  # under which no version is taken away between being found and being held
            model = self._find(name, version, label)
            model.acquire()
        try:
            yield model
        finally:
            model.release()

    def status(self, name: str, version: int | None = None) -> list[VersionStatus]:
        """The versions of a model, also those that ended, the highest first.

        Raises:
            Refusal: NOT_FOUND.
        """
        with self._lock:
            model = self._models.get(name)
            known = model.versions if model else {}
            if version is not None and version not in known:
                raise Refusal("NOT_FOUND", f"Could not find version {version} of model {name}")
            if not known:
                raise Refusal("NOT_FOUND", f"Could not find any versions of model {name}")
            chosen = [version] if version is not None else sorted(known, reverse=True)
            return [_status(number, known[number]) for number in chosen]

    def why_not_ready(self) -> list[str]:
        """A sentence for each model that is not ready to serve; empty when all is well.

        A model is ready once every wanted version is available, and stays so while others load as long as one serves:
        else all servers on one directory would leave their load balancer whenever something is published.
        """
        with self._lock:
            if not self._configured:
                return ["the configuration is not read yet"]
            return [reason for model in self._models.values() if (reason := _lacks(model))]

    @property
    def names(self) -> list[str]:
        """Of the models."""
        with self._lock:
            return list(self._models)

    @property
    def revision(self) -> int:
        """Rises whenever a version comes or goes."""
        return self._revision

    # --- configuration --------------------------------------------------------------------------------------------

    def reload(self, configs: Sequence[ModelConfig]) -> None:
        """Takes these models in the place of all others, and waits for those that are new.

        Raises:
            Refusal: the configuration cannot be, a label points at what is not there, or a new model does not load.
        """
        with self._reloading:
            self._reload(configs)

    def _reload(self, configs: Sequence[ModelConfig]) -> None:
        with self._lock:
            changed_platforms({name: model.config for name, model in self._models.items()}, list(configs))
            labels = {config.name: self._checked_labels(config) for config in configs}
            new = [config.name for config in configs if config.name not in self._models]
            for config in configs:
                if config.name not in self._models:
                    workers = self._shared or _Workers(self._options.load_threads)
                    self._models[config.name] = _Model(config, workers)
                self._models[config.name].config = config
            dropped = [name for name in self._models if name not in labels]
            self._labels = labels
            self._configured = True
        for name in dropped:
            self._drop(name)
        self.poll()
        self._wait_for(new)

    def start(self) -> None:
        """Looks at the base paths from now on."""
        if self._options.poll_s > 0 and self._poller is None:
            self._poller = threading.Thread(target=self._watch, daemon=True, name="poller")
            self._poller.start()

    def close(self) -> None:
        """Stops watching, and unloads everything once no request runs on it."""
        with self._changed:
            self._stopping.set()
            self._changed.notify_all()  # whoever waits for models
        self._wake.set()
        if self._poller is not None:
            self._poller.join()
        with self._lock:
            workers = [model.workers for model in self._models.values()]
        for one in workers:
            one.shutdown(wait=True)
        with self._lock:
            versions = [(model, number) for model in self._models.values() for number in model.available]
        for model, number in versions:
            self._unload(model, number)

    def _checked_labels(self, config: ModelConfig) -> dict[str, int]:
        known = self._models.get(config.name)
        for label, version in config.labels.items():
            existing = self._labels.get(config.name, {}).get(label)
            may_wait = self._options.new_labels_may_wait and existing in (None, version)
            if not may_wait and (known is None or version not in known.available):
                raise Refusal(
                    "FAILED_PRECONDITION",
                    f"Request to assign label to version {version} of model {config.name}, which is not currently "
                    "available for inference",
                )
        return dict(config.labels)

    def _wait_for(self, names: Sequence[str]) -> None:
        """Waits until each model has its wanted versions, or none of them will come."""
        deadline = time.monotonic() + self._options.start_timeout_s
        failed: list[str] = []
        for name in names:
            self._wait_for_one(name, deadline)
            failed += self._unavailable(name)
        if failed and not self._stopping.is_set():
            raise Refusal("UNKNOWN", f"{len(failed)} model(s) did not become available: {{{', '.join(failed)}}}")

    def _wait_for_one(self, name: str, deadline: float) -> None:
        tried = -1
        while True:
            with self._changed:
                left = None if self._options.strict else max(0.0, deadline - time.monotonic())
                settled = self._changed.wait_for(partial(self._settled, name), left)
                failed = self._failed_unless_served(name)
            if not settled or failed in (0, tried):
                return
            tried = failed
            self.poll()  # what failed is passed over for the next lower version

    def _failed_unless_served(self, name: str) -> int:
        """How many versions failed; 0 where that need not trouble anyone."""
        model = self._models.get(name)
        if self._options.strict or self._stopping.is_set() or model is None or model.available:
            return 0
        return sum(version.failed for version in model.versions.values())

    def _settled(self, name: str) -> bool:
        model = self._models.get(name)
        if model is None or self._stopping.is_set():
            return True
        if self._options.strict and not model.wanted:
            return False  # as the original, which waits for ever
        return all(model.versions[number].state in ("AVAILABLE", "END") for number in model.wanted)

    def _unavailable(self, name: str) -> list[str]:
        with self._lock:
            model = self._models.get(name)
            if model is None or (model.available and not self._options.strict):
                return []
            failed = {number for number, version in model.versions.items() if version.failed}
            lacking = sorted({number for number in model.wanted if number not in model.available} | failed)
            return [
                f"{{name: {name} version: {number} due to error: {version.code}: {version.message}}}"
                for number in lacking
                if (version := model.versions.get(number))
            ]

    # --- watching -------------------------------------------------------------------------------------------------

    def poll(self) -> None:
        """Looks at every base path once, and has loaded and unloaded what follows from it."""
        with self._polling:
            loads = self._look()
        if self._options.strict:
            wait(loads)  # the original loads in the thread that manages states

    def _watch(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(self._options.poll_s)
            self._wake.clear()
            try:
                self.poll()
            except Exception:  # noqa: BLE001 - whatever it is, the watch goes on
                _LOG.exception("could not look at the base paths")

    def _look(self) -> list[Future[None]]:
        with self._lock:
            models = list(self._models.values())
        present: list[tuple[_Model, dict[int, Path] | None]] = []
        for model in models:
            found = _present(model.config.base_path, self._options.strict)
            if found is None and self._options.strict:
                _LOG.error("Could not find base path %s for servable %s", model.config.base_path, model.config.name)
                return []
            present.append((model, found))
        begun: list[Future[None]] = []
        for model, found in present:
            if found or (found is not None and self._options.strict):
                begun += self._update(model, found)
            elif model.available or model.wanted:
                _LOG.warning("no versions of %s in %s: nothing is changed", model.config.name, model.config.base_path)
        return begun

    def _update(self, model: _Model, present: Mapping[int, Path]) -> list[Future[None]]:
        with self._lock:
            if model.dropped:
                return []
            for number, version in model.versions.items():
                if version.failed and number not in present:  # under its number another may come
                    version.code, version.message = "OK", ""
            model.wanted = self._wanted(model, present)
            due = [number for number in model.wanted if self._is_due(model.versions.get(number), present[number])]
            for number in due:
                model.versions[number] = self._begin(model, number, present[number])
            served = any(number in model.wanted for number in model.available)
            unwanted = [number for number in model.available if number not in model.wanted]
            if not served and not (self._options.strict and not model.wanted):
                unwanted = []  # they go once another has taken their place
            load, unload = model.workers.loaders.submit, model.workers.unloaders.submit
            begun = [load(self._attempt, model, number, present[number]) for number in due]
            return begun + [unload(self._unload, model, number) for number in unwanted]

    def _wanted(self, model: _Model, present: Mapping[int, Path]) -> list[int]:
        policy = model.config.policy
        if self._options.strict:
            return policy.wanted(list(present))
        needed = (*self._labels.get(model.config.name, {}).values(), *model.config.beside)
        labelled = {number for number in needed if number in present}
        if policy.kind != "latest":
            return sorted({*policy.wanted(list(present)), *labelled})
        sound = [
            number
            for number, path in present.items()
            if not (version := model.versions.get(number)) or not version.failed or self._is_due(version, path)
        ]
        return sorted({*policy.wanted(sound), *labelled})

    def _is_due(self, version: _Version | None, path: Path) -> bool:
        """Whether a wanted version is to be loaded now."""
        if version is None or (version.state == "END" and version.code == "OK"):
            return True
        if not version.failed or self._options.strict:
            return False
        if version.files != _files(path):
            return True
        waited = time.monotonic() - version.tried_at >= self._options.retry_interval_s
        return waited and version.attempts <= self._options.load_retries

    def _begin(self, model: _Model, number: int, path: Path) -> _Version:
        before = model.versions.get(number)
        files = _files(path)
        attempts = before.attempts if before and before.files == files else 0
        begun = _Version("LOADING", files=files, attempts=attempts + 1, tried_at=time.monotonic())
        self._tell(model, number, begun)
        return begun

    def _attempt(self, model: _Model, number: int, path: Path) -> None:
        """In a loader's thread."""
        config, version = model.config, model.versions[number]
        retries = self._options.load_retries if self._options.strict else 0
        while True:
            try:
                loaded = self._load_version(config, number, path)
            except Refusal as error:
                refusal = error
            except Exception as error:  # noqa: BLE001 - a version that cannot be loaded is no fault of the server
                refusal = Refusal("INTERNAL", f"{type(error).__name__}: {error}")
            else:
                self._set(model, number, version, "AVAILABLE", loaded=loaded)
                return
            _LOG.warning("version %d of %s does not load: %s", number, config.name, refusal.message)
            if retries <= 0 or self._stopping.wait(self._options.retry_interval_s):
                break
            retries -= 1
        self._set(model, number, version, "END", refusal=refusal)

    def _set(
        self,
        model: _Model,
        number: int,
        version: _Version,
        state: State,
        *,
        loaded: LoadedModel | None = None,
        refusal: Refusal | None = None,
    ) -> None:
        with self._changed:
            version.state, version.model = state, loaded
            version.code, version.message = (refusal.code, refusal.message) if refusal else ("OK", "")
            model.was_ready |= all(wanted in model.available for wanted in model.wanted)
            self._tell(model, number, version)
            self._changed.notify_all()
            dropped = model.dropped
        if dropped:
            self._unload(model, number)
        self._wake.set()  # what it replaces can go, or what it leaves open be filled, at once

    # --- one version ----------------------------------------------------------------------------------------------

    def _find(self, name: str, version: int | None, label: str | None) -> LoadedModel:
        if not name:
            raise Refusal("INVALID_ARGUMENT", "ModelSpec has no name specified.")
        with self._lock:
            if label is not None:
                version = self._labels.get(name, {}).get(label)
                if version is None:
                    raise Refusal("INVALID_ARGUMENT", f"Unrecognized servable version label: {label}")
            model = self._models.get(name)
            available = model.available if model else []
            number = max(available, default=None) if version is None else version
            if model is None or number not in available:
                asked = f"Latest({name})" if version is None else f"Specific({name}, {version})"
                raise Refusal("NOT_FOUND", f"Servable not found for request: {asked}")
            assert number is not None
            loaded = model.versions[number].model
            assert loaded is not None
            return loaded

    def _unload(self, model: _Model, number: int) -> None:
        with self._changed:
            version = model.versions[number]
            if version.state != "AVAILABLE":
                return
            loaded, version.model = version.model, None
            version.state = "UNLOADING"
            self._tell(model, number, version)
        assert loaded is not None
        try:
            self._unload_version(loaded)
        except Exception:  # noqa: BLE001 - no request reaches it any more, whatever it leaves behind
            _LOG.exception("version %d of %s does not unload cleanly", number, model.config.name)
        with self._changed:
            version.state = "END"
            self._tell(model, number, version)
            self._changed.notify_all()

    def _drop(self, name: str) -> None:
        with self._lock:
            model = self._models.pop(name)
            model.dropped = True
            available = model.available
        for number in available:
            self._unload(model, number)
        if self._shared is None:
            model.workers.shutdown(wait=False)

    def _tell(self, model: _Model, number: int, version: _Version) -> None:
        self._revision += 1
        self._on_change(model.config.name, _status(number, version))


def version_number(name: str, *, strict: bool = False) -> int | None:
    """The version that a directory's name stands for, or None.

    Args:
        name: of the directory.
        strict: as TF Serving reads it: blanks around it, a sign and leading zeros are no hindrance.

    >>> version_number("7"), version_number("007"), version_number("007", strict=True)
    (7, None, 7)
    """
    text = name.strip(" \t\n\v\f\r") if strict else name
    pattern = r"[+-]?[0-9]+" if strict else r"0|[1-9][0-9]*"
    if not re.fullmatch(pattern, text):
        return None
    number = int(text)
    return number if -_INT64 <= number < _INT64 else None


def _present(base_path: Path, strict: bool) -> dict[int, Path] | None:
    """The versions in a base path; None where it cannot be read."""
    try:
        with os.scandir(base_path) as entries:
            found = sorted((entry.name, entry.is_dir()) for entry in entries)
    except OSError:
        return None
    versions = {}
    for name, is_directory in found:
        number = version_number(name, strict=strict)
        if number is not None and (strict or is_directory):
            versions[number] = base_path / name
    return versions


def _files(path: Path) -> tuple[object, ...]:
    """What a version's directory looks like, so that a change is seen."""
    marks: list[object] = []
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                found = os.stat(os.path.join(folder, name))
                marks.append((os.path.relpath(os.path.join(folder, name), path), found.st_size, found.st_mtime_ns))
    return tuple(sorted(marks, key=str))


def _status(number: int, version: _Version) -> VersionStatus:
    return VersionStatus(number, version.state, version.code, version.message)


def _lacks(model: _Model) -> str:
    lacking = [number for number in model.wanted if number not in model.available]
    if model.available and (model.was_ready or not lacking):
        return ""
    failed = [number for number, version in model.versions.items() if version.failed]
    states = [
        f"version {number} is {version.state}" + (f" ({version.code}: {version.message})" if version.failed else "")
        for number in sorted({*lacking, *failed})
        if (version := model.versions.get(number))
    ]
    return f"{model.config.name}: {', '.join(states) or f'no version in {model.config.base_path}'}"
