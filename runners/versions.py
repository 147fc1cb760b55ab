"""The commands on the versions of a base path: list, roll back, pin, label, allow, history, fsck, verify.

Each act is done in the base path first, where it takes effect, and then recorded in the lineage. A rollback that was cut
off in between is recorded by the next command or run, as its manifest tells of it.
"""

from __future__ import annotations

import logging
import shlex
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from runners.command import DEFAULT, Config, Debug, Json, Overrides, errors, print_json

__all__ = ["allow_digest", "register"]

_SHORT = 12

Number = Annotated[int, typer.Argument(metavar="VERSION", help="The version's number.")]
By = Annotated[str, typer.Option(help="Who does this. [default: USER@HOST]")]
Reason = Annotated[str, typer.Option(help="Why; it is recorded.")]
Payload = Annotated[str, typer.Option(help="saved_model, or tflite for the files that devices take.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    for command in (versions, rollback, pin, label, allow, history, fsck, verify):
        app.command()(command)


@dataclass(frozen=True)
class _Place:
    """The base path of a pipeline, and the lineage that knows of it."""

    pipeline: str
    base_path: str
    metadata: Any
    store: Any
    confirm: Any
    given: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: Path, overrides: list[str] | None, payload: str = "saved_model") -> _Place:
        from schemas.load import load_config
        from serving.store import open_versions

        # ML Metadata warns of what it raises as well; the error says it once.
        logging.getLogger("absl").setLevel(logging.ERROR)
        loaded = load_config(config, overrides or []).config
        base_path = _base_path(loaded.push, payload)
        confirm = loaded.push.serving.confirm if payload == "saved_model" else None
        given = [] if str(config) == DEFAULT else [str(config)]
        given += [word for one in overrides or [] for word in ("--set", one)]
        return cls(loaded.name, base_path, loaded.metadata, open_versions(base_path), confirm, tuple(given))

    def command(self, *words: str) -> str:
        """What a person would type to do something else to the same base path; a reason is theirs to give."""
        return shlex.join(["satisfice", *words, *self.given]).replace("--reason ''", "--reason ...")

    def open_lineage(self) -> Any:
        """The metadata store, for writing, with every rollback in it that the base path knows of."""
        from components.lineage.acts import record_missed_rollbacks
        from components.lineage.store import open_store

        opened = open_store(self.metadata)
        record_missed_rollbacks(opened, self.pipeline, self.store, self.base_path)
        return opened

    def confirmations(self, version: int) -> tuple[Any, ...]:
        """What became of a version on the servers that have to confirm it; none where none has to."""
        if self.confirm is None:
            return ()
        from serving.confirm import confirm
        from serving.golden import GOLDEN_FILE, parse_golden

        content = self.store.read(version, GOLDEN_FILE)
        golden = parse_golden(content, GOLDEN_FILE) if content is not None else None
        return confirm(self.confirm, self.pipeline, version, golden)

    def record(self, opened: Any, by: str, kind: str, *, serves: Any = None, **facts: Any) -> Any:
        """Records an act that was done just now."""
        from components.lineage.acts import record_act
        from schemas.act import StoreAct

        at = facts.pop("at", None) or datetime.now(UTC)
        act = StoreAct(kind=kind, base_path=self.base_path, by=by, at=at, **facts)
        newest = self.store.newest()
        record_act(opened, self.pipeline, act, serves, newest.number if newest else 0)
        return act


# --- acts -------------------------------------------------------------------------------------------------------------


def rollback(
    to: Annotated[int, typer.Option(metavar="VERSION", help="The older version whose bytes are to serve again.")],
    reason: Annotated[str, typer.Option(help="Why; it is recorded.")],
    config: Config = Path(DEFAULT),
    by: By = "",
    label: Annotated[str, typer.Option(help="Move this label back, and publish nothing.")] = "",
    available: Annotated[bool, typer.Option("--available", help="With --label: every server has it loaded.")] = False,
    payload: Payload = "saved_model",
    overrides: Overrides = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Serve an older version again, under a new number; what served is refused from now on. Undone in the same way.

    Where push.serving.confirm names servers, they have to take it: exit code 3, and all is as before, where one does not.
    """
    with errors(as_json, debug):
        _check_reason(reason)
        place = _Place.of(config, overrides, payload)
        opened = place.open_lineage()
        if label:
            _check_label(label)
            _move_label(place, opened, label, to, by or _me(), reason, available=available, back=True, as_json=as_json)
            return
        above = _largest_known(opened, place)
        done = place.store.rollback(to, by=by or _me(), reason=reason, above=above)
        ended = _ended_rollback(place, opened, done, by or _me())
        if as_json:
            print_json(ended.as_dict())
        else:
            for line in ended.lines(place, to, payload):
                typer.echo(line)
    if ended.outcome == "not_confirmed":
        raise typer.Exit(3)


@dataclass(frozen=True)
class _EndedRollback:
    """What came of a rollback.

    Attributes:
        done: what the store did.
        outcome: `pushed`, `already_served`, or `not_confirmed` where a server did not take the version.
        reason: why, in words.
        act: as it was recorded; None where nothing serves because of it.
        confirmations: of the servers that were asked.
        withdrawn: the version that was moved out again; None where none was.
    """

    done: Any
    outcome: str
    reason: str
    act: Any = None
    confirmations: tuple[Any, ...] = ()
    withdrawn: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        gone = self.withdrawn is not None
        return {
            "outcome": self.outcome,
            "version": None if gone else self.done.version,
            "path": "" if gone else str(self.done.path),
            "reason": self.reason,
            "act": self.act.model_dump(mode="json") if self.act else None,
            "confirmations": [one.model_dump(mode="json") for one in self.confirmations],
            "withdrawn": self.withdrawn,
        }

    def lines(self, place: _Place, to: int, payload: str) -> list[str]:
        """For people."""
        if self.outcome == "already_served":
            return [f"Nothing to do: {self.reason}, as version {to} does."]
        said = []
        if self.outcome == "not_confirmed":
            gone = self.withdrawn is not None
            done = "what was published was withdrawn" if gone else "what was published is still there"
            said = [f"Blocked: {done}.", f"  {self.reason}"]
        if self.withdrawn is not None:
            return said
        said += [f"Version {self.done.version} serves the bytes of version {to}.", f"  {self.done.path}"]
        said += [f"  {one.told}" for one in self.confirmations if one.confirmed]
        if self.act.from_version is not None and self.act.from_digest:
            left = f"version {self.act.from_version} (digest {self.act.from_digest[:_SHORT]})"
            back = ("rollback", *_option(payload).split(), "--to", str(self.act.from_version), "--reason", "")
            said += [f"What served, {left}, is refused from now on.", f"Undo: {place.command(*back)}"]
        return said


def _ended_rollback(place: _Place, opened: Any, done: Any, by: str) -> _EndedRollback:
    """Has servers confirm what a rollback published, takes it back where one does not, and records what stands."""
    if done.outcome != "pushed":
        return _EndedRollback(done, done.outcome, done.reason)
    from components.lineage.acts import record_rollback, take_back_withdrawn
    from components.pusher.publish import refused_by, withdraw

    manifest = place.store.manifest(done.version)
    confirmations = place.confirmations(done.version)
    outcome, reason, withdrawn = done.outcome, done.reason, None
    if refused_by(confirmations):
        withdrawn, reason = withdraw(place.store, done.version, confirmations, by=by)
        outcome = "not_confirmed"
        take_back_withdrawn(opened, place.store, place.base_path)  # a run may have recorded it while servers were asked
    act = None
    if withdrawn is None:
        act, _ = record_rollback(opened, place.pipeline, manifest, place.base_path)
    return _EndedRollback(done, outcome, reason, act, confirmations, withdrawn)


def pin(
    version: Number,
    config: Config = Path(DEFAULT),
    remove: Annotated[bool, typer.Option("--remove", help="Leave it to retention again.")] = False,
    by: By = "",
    reason: Reason = "",
    payload: Payload = "saved_model",
    overrides: Overrides = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Keep a version from being removed when push.serving.keep_versions would."""
    with errors(as_json, debug):
        place = _Place.of(config, overrides, payload)
        opened = place.open_lineage()
        if remove:
            place.store.unpin(version)
        else:
            place.store.pin(version, by=by or _me(), reason=reason)
        kind = "unpin" if remove else "pin"
        act = place.record(opened, by or _me(), kind, version=version, digest=_digest(place, version), reason=reason)
        if as_json:
            print_json(act.model_dump(mode="json"))
        else:
            typer.echo(f"Version {version} is {'left to retention again' if remove else 'kept'}.")


def label(
    name: Annotated[str, typer.Argument(metavar="LABEL", help="Its name, as requests to a server spell it.")],
    version: Annotated[str, typer.Argument(metavar="VERSION", help="What it is to name; none takes it away.")],
    config: Config = Path(DEFAULT),
    available: Annotated[bool, typer.Option("--available", help="Every server has the version loaded.")] = False,
    by: By = "",
    reason: Reason = "",
    overrides: Overrides = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Give a label to a version in two steps, as a server demands: load it; once it is available, move the label."""
    with errors(as_json, debug):
        number = _version_or_none(version)
        if number is not None:
            _check_label(name)
        place = _Place.of(config, overrides)
        opened = place.open_lineage()
        if number is not None:
            who = by or _me()
            _move_label(place, opened, name, number, who, reason, available=available, back=False, as_json=as_json)
            return
        named = place.store.drop_label(name)
        act = place.record(opened, by or _me(), "unlabel", version=named, label=name, reason=reason)
        if as_json:
            print_json(act.model_dump(mode="json"))
        else:
            typer.echo(f"Label {name!r} is gone.")


def allow(
    digest: Annotated[str, typer.Argument(metavar="DIGEST", help="Of the bytes; its beginning is enough.")],
    reason: Annotated[str, typer.Option(help="Why; it is recorded.")],
    config: Config = Path(DEFAULT),
    by: By = "",
    payload: Payload = "saved_model",
    overrides: Overrides = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Let bytes that were rolled back be pushed again."""
    with errors(as_json, debug):
        _check_reason(reason)
        act = _allow(_Place.of(config, overrides, payload), digest, reason, by)
        if as_json:
            print_json(act.model_dump(mode="json"))
        else:
            typer.echo(f"Digest {act.digest[:_SHORT]} can be pushed again.")


def allow_digest(config: Path, overrides: list[str] | None, digest: str, *, reason: str, by: str = "") -> Any:
    """Lifts the refusal of a digest that was rolled back, of a SavedModel or a `.tflite` file, and records that.

    Raises:
        StoreError: it is not refused.
    """
    place = _Place.of(config, overrides)
    if not _is_refused(place, digest) and _has_edge(config, overrides):
        devices = _Place.of(config, overrides, "tflite")
        place = devices if _is_refused(devices, digest) else place
    return _allow(place, digest, reason, by)


def _allow(place: _Place, digest: str, reason: str, by: str) -> Any:
    opened = place.open_lineage()
    whole, refusal = place.store.allow(digest)
    return place.record(opened, by or _me(), "allow", version=refusal.version, digest=whole, reason=reason)


def fsck(
    config: Config = Path(DEFAULT),
    mend: Annotated[
        bool, typer.Option("--repair", help="Move aside what does not belong; nothing is deleted.")
    ] = False,
    by: By = "",
    reason: Reason = "",
    payload: Payload = "saved_model",
    overrides: Overrides = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Find what is wrong with the base path and what TF Serving makes of it: exit code 1 where there are errors."""
    with errors(as_json, debug):
        from serving.store import find, find_in_bucket, is_remote, repair, repair_in_bucket

        place = _Place.of(config, overrides, payload)
        remote = is_remote(place.base_path)
        mended = []
        if mend:
            opened = place.open_lineage()
            mended = repair_in_bucket(place.store) if remote else repair(place.store)
            done = tuple(f"{finding.path}: {what}" for finding, what in mended if what)
            if done:
                place.record(opened, by or _me(), "repair", reason=reason, done=done)
        left = find_in_bucket(place.store) if remote else find(place.base_path)
        _tell_findings(place, mended, left, payload, as_json=as_json)
        wrong = any(finding.severity == "error" for finding in left)
    raise typer.Exit(1 if wrong else 0)


# --- reading ----------------------------------------------------------------------------------------------------------


def versions(
    config: Config = Path(DEFAULT),
    payload: Payload = "saved_model",
    overrides: Overrides = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the versions in the base path, the newest first, with what is pinned, labelled and refused."""
    with errors(as_json, debug):
        place = _Place.of(config, overrides, payload)
        marks = place.store.marks()
        rows = [_row(place, marks, version, newest=not i) for i, version in enumerate(place.store.whole())]
        if as_json:
            refused = {digest: refusal.model_dump(mode="json") for digest, refusal in marks.refused.items()}
            document = {"base_path": place.base_path, "state": place.store.state(), "versions": rows}
            print_json({**document, "labels": marks.labels, "moving": marks.moving, "refused": refused})
            return
        if not rows:
            typer.echo(f"{place.base_path} holds no version yet.")
            return
        from runners.view import console_on, versions_table

        console = console_on(sys.stdout)
        console.print(versions_table(rows))
        for digest, refusal in marks.refused.items():
            console.print(
                f"refused: digest {digest[:_SHORT]}, rolled back as version {refusal.version} by {refusal.by}:"
                f" {refusal.reason}",
                markup=False,
                soft_wrap=True,
            )
        hiding = place.store.hides(place.store.newest())
        if hiding:
            console.print(f"warning: TF Serving sees {hiding!r} before these; satisfice fsck says more", markup=False)


def verify(
    config: Config = Path(DEFAULT),
    version: Annotated[int | None, typer.Option(help="This one alone. [default: all of them]")] = None,
    payload: Payload = "saved_model",
    overrides: Overrides = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare every byte of the versions with their manifests: exit code 1 where one differs."""
    with errors(as_json, debug):
        from schemas.errors import StoreError

        place = _Place.of(config, overrides, payload)
        numbers = [version] if version is not None else place.store.numbers_with_manifest(place.store.manifests)
        there = [one for one in sorted(numbers) if version is not None or place.store.has(one)]
        found: dict[int, str] = {}
        for one in there:
            try:
                place.store.verify(one)
                found[one] = ""
            except StoreError as error:
                found[one] = str(error)
        if as_json:
            print_json([{"version": one, "ok": not said, "error": said} for one, said in found.items()])
        else:
            for one, said in found.items():
                typer.echo(f"version {one}: {said or 'every byte as published'}")
            if not found:
                typer.echo(f"{place.base_path} holds no version of this store.")
    raise typer.Exit(1 if any(found.values()) else 0)


def history(
    config: Config = Path(DEFAULT),
    at: Annotated[
        str, typer.Option(metavar="TIME", help="What served then: 2026-11-22T14:30, UTC unless it says.")
    ] = "",
    payload: Payload = "saved_model",
    overrides: Overrides = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Say what served when, who made it so, and why; with --at, at one time."""
    with errors(as_json, debug):
        from components.lineage.history import history as history_of
        from components.lineage.history import served_at

        moment = _moment(at) if at else None
        place = _Place.of(config, overrides, payload)
        happenings = history_of(*_lineage(place), place.pipeline, place.base_path, place.store.all_manifests())
        if moment is not None:
            _tell_serving(place.base_path, served_at(happenings, moment), as_json=as_json)
        elif as_json:
            print_json([one.as_dict() for one in happenings])
        elif not happenings:
            typer.echo(f"Nothing was ever published to {place.base_path}.")
        else:
            from runners.view import console_on, history_table

            console_on(sys.stdout).print(history_table(happenings))


# --- what these share -------------------------------------------------------------------------------------------------


def _option(payload: str) -> str:
    """As a person would type it."""
    return "" if payload == "saved_model" else f" --payload {payload}"


def _has_edge(config: Path, overrides: list[str] | None) -> bool:
    from schemas.load import load_config

    return load_config(config, overrides or []).config.push.edge is not None


def _is_refused(place: _Place, digest: str) -> bool:
    return any(one.startswith(digest) for one in place.store.marks().refused)


def _base_path(push: Any, payload: str) -> str:
    if payload not in ("saved_model", "tflite"):
        raise _usage("--payload", "is no kind of payload", "saved_model or tflite", payload)
    if payload == "saved_model":
        return str(push.serving.base_path)
    if push.edge is None:
        raise _usage("--payload", "names files for devices, and push.edge is not given", "push.edge.base_path", payload)
    return str(push.edge.base_path)


def _move_label(
    place: _Place,
    opened: Any,
    name: str,
    version: int,
    by: str,
    reason: str,
    *,
    available: bool,
    back: bool,
    as_json: bool,
) -> None:
    from serving.store import Mark

    facts: dict[str, Any] = {"version": version, "label": name, "reason": reason, "digest": _digest(place, version)}
    if available:
        before = place.store.marks().labels.get(name)
        left_champion = _is_champion(place, opened, before)
        mark = Mark(by=by, at=datetime.now(UTC), reason=reason) if back else None
        move = place.store.finish_label(name, version, rolled_back=mark)
        facts |= {"from_version": before, "from_digest": _digest(place, before), "to_version": version} if back else {}
        serves = place.store.manifest(version) if back and left_champion else None
        act = place.record(opened, by, "label_rollback" if back else "label", serves=serves, **facts)
    else:
        move = place.store.begin_label(name, version)
        act = place.record(opened, by, "label_load", **facts)
    if as_json:
        print_json({"label": name, "version": move.version, "moving_to": move.moving_to, "load": move.load,
                    "act": act.model_dump(mode="json")})  # fmt: skip
    elif move.moving_to is None:
        typer.echo(f"Label {name!r} names version {move.version}. Servers now load: {_list(move.load)}.")
    else:
        words = (
            ("rollback", "--to", str(version), "--label", name, "--reason", "")
            if back
            else ("label", name, str(version))
        )
        now = f"still names version {move.version}" if move.version else "names nothing yet"
        typer.echo(
            f"Servers are to load: {_list(move.load)}. Label {name!r} {now}.\n"
            f"Next: once version {version} is AVAILABLE on every server, {place.command(*words, '--available')}"
        )


def _tell_findings(place: _Place, mended: list[Any], left: list[Any], payload: str, *, as_json: bool) -> None:
    if as_json:
        repaired = [{**finding.as_dict(), "done": what} for finding, what in mended if what]
        print_json({"base_path": place.base_path, "repaired": repaired, "findings": [one.as_dict() for one in left]})
        return
    for finding, what in mended:
        if what:
            typer.echo(f"repaired  {finding.path}: {what}")
    for finding in left:
        typer.echo(f"{finding.severity:<8}  {finding.path}: {finding.problem}\n          {finding.remedy}")
    if not left:
        typer.echo(f"{place.base_path}: nothing is wrong.")
    elif any(finding.repair for finding in left) and not mended:
        repair = place.command("fsck", *_option(payload).split(), "--repair")
        typer.echo(f"`{repair}` moves aside what does not belong, and deletes nothing.")


def _tell_serving(base_path: str, serving: Any, *, as_json: bool) -> None:
    since = serving.since
    if as_json:
        found = {"at": serving.at.isoformat(), "version": since.version if since else None}
        print_json({**found, "since": since.as_dict() if since else None, "labels": serving.labels})
        return
    when = f"{serving.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    if since is None:
        typer.echo(f"Nothing had been published to {base_path} by {when}.")
        return
    typer.echo(f"At {when} version {since.version} served, digest {since.digest[:_SHORT]}.")
    who = f" by {since.by}" if since.by else ""
    what = f"rolled back to version {since.to_version}" if since.kind == "rollback" else "pushed"
    run = f" in run {since.run}" if since.run else ""
    typer.echo(f"  {what}{who}{run} on {since.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC: {since.why}")
    for name, version in sorted(serving.labels.items()):
        typer.echo(f"  label {name!r} named version {version}")


def _row(place: _Place, marks: Any, version: Any, *, newest: bool) -> dict[str, Any]:
    manifest = place.store.manifest(version.number) if version.digest else None
    return {
        "version": version.number,
        "newest": newest,
        "digest": version.digest,
        "published_at": manifest.published_at.isoformat() if manifest else None,
        "run": manifest.provenance.get("run", "") if manifest else "",
        "rollback_to": manifest.rollback.to if manifest and manifest.rollback else None,
        "reason": manifest.rollback.reason if manifest and manifest.rollback else "",
        "bytes": sum(file.size for file in manifest.files) if manifest else None,
        "pinned": version.number in marks.pinned,
        "labels": sorted(name for name, number in marks.labels.items() if number == version.number),
    }


def _lineage(place: _Place) -> tuple[Any, Any]:
    """The pipeline's lineage and its open store; None for both where there is none yet: the base path can tell a part."""
    from components.lineage.reader import Lineage
    from components.lineage.store import open_store
    from schemas.errors import MetadataError

    try:
        opened = open_store(place.metadata, read_only=True)
    except MetadataError:
        if place.metadata.sqlite is not None and Path(place.metadata.sqlite.path).exists():
            raise
        return None, None
    return Lineage(place.metadata, place.pipeline, opened), opened


def _largest_known(opened: Any, place: _Place) -> int:
    """The largest number that the lineage knows of, should the base path have lost its memory."""
    from components.lineage.history import history as history_of
    from components.lineage.reader import Lineage

    lineage = Lineage(place.metadata, place.pipeline, opened)
    happenings = history_of(lineage, opened, place.pipeline, place.base_path, [])
    return max((one.version or 0 for one in happenings), default=0)


def _is_champion(place: _Place, opened: Any, version: int | None) -> bool:
    """Whether a version holds the champion's bytes; where the lineage knows of none, whether it is the newest."""
    from components.lineage.served import newest_push

    champion = newest_push(opened.get_artifacts_by_type("PushedModel"), place.base_path)
    newest = place.store.newest()
    if champion is None:
        return newest is not None and newest.number == version
    return version is not None and champion.custom_properties["digest"].string_value == _digest(place, version)


def _digest(place: _Place, version: int | None) -> str:
    from schemas.errors import StoreError

    try:
        return str(place.store.manifest(version).digest) if version is not None else ""
    except StoreError:
        return ""


def _version_or_none(text: str) -> int | None:
    if text == "none":
        return None
    if not text.isdecimal():
        raise _usage("VERSION", "is no version", "a number, or none to take the label away", text)
    return int(text)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise _usage("--at", "is not a time", "2026-11-22, 2026-11-22T14:30 or 2026-11-22T14:30+01:00", text) from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if moment > datetime.now(UTC):
        raise _usage("--at", "is still to come", "a time that has passed; UTC unless it says", text)
    return moment


def _check_reason(reason: str) -> None:
    if not reason.strip():
        raise _usage("--reason", "is empty", "why: it is recorded, and shown to whoever asks later")


def _check_label(name: str) -> None:
    """What a request to a server can spell: `/v1/models/taxi/labels/stable`."""
    from schemas.config import LABEL_WORDS, is_label

    if not is_label(name):
        raise _usage("LABEL", "is no name of a label", LABEL_WORDS, name)


def _usage(path: str, problem: str, expected: str = "", got: str = "") -> Exception:
    from schemas.errors import ConfigError, Fault

    return ConfigError("command line", [Fault(path, problem, expected, got)])


def _me() -> str:
    from components.lineage.writer import user_and_host

    return user_and_host()


def _list(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))
