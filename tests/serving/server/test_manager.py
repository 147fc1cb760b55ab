"""Which versions are loaded: policies, labels, fallback, retries, unloading, and the strict manager's hazards."""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from contextlib import ExitStack

import pytest

from serving.server.config import ModelConfig, Policy
from serving.server.manager import Manager, Options, version_number
from serving.server.model import LoadedModel
from serving.server.status import Refusal


class Graph:
    """What stands for a graph: it says whether it is closed."""

    signatures = {}

    def __init__(self):
        self.closed = False

    def run(self, signature, feeds, fetches, values):
        return []

    def close(self):
        self.closed = True


class Bench:
    """A manager on real directories, with a loader that loads whatever holds `saved_model.pb`."""

    def __init__(self, folder, **options):
        self.base = folder / "m"
        self.base.mkdir(exist_ok=True)
        self.loads = Counter()
        self.order = []
        self.gate = threading.Event()
        self.gate.set()
        self.graphs = {}
        self.changes = []
        settings = {"poll_s": 0.02, "retry_interval_s": 60.0, "load_retries": 2, "start_timeout_s": 120.0, **options}
        self.manager = Manager(self._load, lambda model: model.close(), Options(**settings), self._changed)

    def _load(self, config, number, path):
        self.gate.wait(120)
        self.loads[number] += 1
        self.order.append(number)
        if not (path / "saved_model.pb").exists():
            raise Refusal("NOT_FOUND", f"no SavedModel in {path.name}")
        self.graphs[number] = Graph()
        return LoadedModel(config.name, number, self.graphs[number])

    def _changed(self, name, status):
        self.changes.append((status.version, status.state))

    def put(self, number, *, whole=True, base=None):
        """A version, at once where it is new; `whole` makes one whole that was not."""
        folder = (base or self.base) / str(number)
        if folder.exists():
            (folder / "saved_model.pb").write_text("m")
            return
        staging = folder.with_name(f".staging-{number}")
        staging.mkdir(parents=True)
        if whole:
            (staging / "saved_model.pb").write_text("m")
        staging.rename(folder)

    def config(self, policy=None, labels=None, name="m", base=None):
        return ModelConfig(name, base or self.base, policy or Policy(), labels or {})

    def begin(self, *configs):
        self.manager.start()
        self.manager.reload(list(configs) or [self.config()])

    @property
    def available(self):
        try:
            return sorted(one.version for one in self.manager.status("m") if one.state == "AVAILABLE")
        except Refusal:
            return []

    def until(self, wanted, seconds=120):
        deadline = time.monotonic() + seconds
        while not (held := wanted()) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert held, (self.available, self.changes)

    def settles(self, *versions):
        self.until(lambda: self.available == sorted(versions))

    def answers(self, **choice):
        with self.manager.use("m", **choice) as model:
            return model.version


@pytest.fixture
def bench(tmp_path):
    with ExitStack() as stack:

        def make(**options):
            made = Bench(tmp_path, **options)
            stack.callback(made.manager.close)
            stack.callback(made.gate.set)
            return made

        yield make


# --- policies ---------------------------------------------------------------------------------------------------------


def test_latest(bench):
    """The highest number in numeric order, and nothing else."""
    b = bench()
    for number in (2, 9, 10):
        b.put(number)
    b.begin()
    assert (b.available, b.answers()) == ([10], 10)


def test_latest_two_all_and_specific(bench):
    """As many as are wanted; what a new configuration no longer wants goes."""
    b = bench()
    for number in (1, 2, 3):
        b.put(number)
    b.begin(b.config(Policy("latest", 2)))
    assert b.available == [2, 3]
    b.manager.reload([b.config(Policy("all"))])
    b.settles(1, 2, 3)
    b.manager.reload([b.config(Policy("specific", versions=(1, 7)))])
    b.settles(1)
    assert b.answers() == 1


def test_a_new_version_replaces_the_old_one(bench):
    """The old one goes after the new one is there, and gives its memory back."""
    b = bench()
    b.put(1)
    b.begin()
    b.put(2)
    b.settles(2)
    assert b.answers() == 2
    b.until(lambda: b.graphs[1].closed)  # a moment after it answers no more
    assert b.changes.index((2, "AVAILABLE")) < b.changes.index((1, "UNLOADING"))


def test_a_removed_version_gives_way(bench):
    """Deleting the newest brings back the one before."""
    b = bench()
    b.put(1)
    b.put(2)
    b.begin()
    shutil.rmtree(b.base / "2")
    b.settles(1)


@pytest.mark.parametrize(
    ("name", "lenient", "strict"),
    [
        ("7", 7, 7), ("0", 0, 0), ("007", None, 7), ("+7", None, 7), ("-7", None, -7), (" 7 ", None, 7),
        (".tmp-7", None, None), ("7.tmp", None, None), ("", None, None), ("9" * 30, None, None),
        (str((1 << 63) - 1), (1 << 63) - 1, (1 << 63) - 1), (str(1 << 63), None, None), ("٣", None, None),
    ],
)  # fmt: skip
def test_version_number(name, lenient, strict):
    """What is a version; TF Serving reads more spellings."""
    assert version_number(name) == lenient
    assert version_number(name, strict=True) == strict


# --- labels -----------------------------------------------------------------------------------------------------------


def test_labels_load_what_they_name(bench):
    """A labelled version is served beside the newest; moving the label lets it go."""
    b = bench()
    for number in (1, 2, 3):
        b.put(number)
    b.begin(b.config(labels={"stable": 1}))
    b.settles(1, 3)
    assert b.answers(label="stable") == 1
    assert b.answers() == 3
    b.manager.reload([b.config(labels={"stable": 3})])
    b.settles(3)
    assert b.answers(label="stable") == 3


def test_a_label_cannot_move_to_what_is_not_available(bench):
    """The whole new configuration is refused, and the old one stays."""
    b = bench()
    b.put(1)
    b.begin(b.config(labels={"stable": 1}))
    with pytest.raises(Refusal, match="Request to assign label to version 9 of model m") as caught:
        b.manager.reload([b.config(labels={"stable": 9})])
    assert caught.value.code == "FAILED_PRECONDITION"
    assert b.answers(label="stable") == 1
    with pytest.raises(Refusal, match="Unrecognized servable version label: odd"):
        b.answers(label="odd")


def test_a_new_label_is_checked_before_loading_where_servers_demand_it(bench):
    """TF Serving without its flag: also at the start."""
    b = bench(new_labels_may_wait=False)
    b.put(1)
    with pytest.raises(Refusal, match="not currently available for inference"):
        b.begin(b.config(labels={"stable": 1}))
    b.begin()
    b.manager.reload([b.config(labels={"stable": 1})])
    assert b.answers(label="stable") == 1


# --- what fails -------------------------------------------------------------------------------------------------------


def test_a_broken_newest_version_is_passed_over_at_the_start(bench):
    """The start waits for the version before it, and says what is wrong with the newest."""
    b = bench(poll_s=0)
    b.put(1)
    b.put(2, whole=False)
    b.put(3, whole=False)
    b.begin()
    assert b.available == [1]
    assert b.answers() == 1
    failed = b.manager.status("m", 3)[0]
    assert (failed.state, failed.code, failed.message) == ("END", "NOT_FOUND", "no SavedModel in 3")
    assert b.manager.why_not_ready() == []


def test_a_broken_newest_version_leaves_the_old_one(bench):
    """And is not tried again and again while its files stay as they are."""
    b = bench()
    b.put(1)
    b.begin()
    b.put(2, whole=False)
    b.until(lambda: (2, "END") in b.changes)
    time.sleep(0.2)
    assert (b.available, b.loads[2]) == ([1], 1)


def test_a_half_written_version_is_tried_again_when_its_files_change(bench):
    """As soon as it is whole it serves."""
    b = bench()
    b.put(1)
    b.begin()
    b.put(2, whole=False)
    b.until(lambda: (2, "END") in b.changes)
    b.put(2)
    b.settles(2)


def test_unchanged_files_are_tried_a_few_times(bench):
    """After each interval, as often as is said."""
    b = bench(retry_interval_s=0.03, load_retries=2)
    b.put(1)
    b.begin()
    b.put(2, whole=False)
    b.until(lambda: b.loads[2] == 3)
    time.sleep(0.2)
    assert (b.available, b.loads[2]) == ([1], 3)


def test_nothing_loads(bench):
    """The error names each version; later a good one serves."""
    b = bench()
    b.put(1, whole=False)
    with pytest.raises(Refusal, match=r"1 model\(s\) did not become available: .*name: m version: 1.*NOT_FOUND"):
        b.begin()
    assert b.manager.why_not_ready() == ["m: version 1 is END (NOT_FOUND: no SavedModel in 1)"]
    b.put(2)
    b.settles(2)


def test_an_exception_of_the_loader_is_no_end(bench):
    """Whatever it is, the version failed, and the others go on."""
    b = bench()
    b.put(1)
    load = b._load

    def loads(config, number, path):
        if number == 2:
            raise MemoryError("too large")
        return load(config, number, path)

    b.manager._load_version = loads
    b.begin()
    b.put(2)
    b.until(lambda: (2, "END") in b.changes)
    assert b.manager.status("m", 2)[0].message == "MemoryError: too large"
    assert b.answers() == 1


@pytest.mark.parametrize("kind", ["empty", "missing"])
def test_a_base_path_without_versions_changes_nothing(bench, kind):
    """What serves goes on; what comes is taken."""
    b = bench()
    b.put(1)
    b.begin()
    shutil.rmtree(b.base)
    if kind == "empty":
        b.base.mkdir()
    time.sleep(0.2)
    assert (b.available, b.answers()) == ([1], 1)
    b.put(2)
    b.settles(2)


def test_a_base_path_that_is_not_there_yet(bench, tmp_path):
    """It does not hold up other models; once it is there it is served."""
    b = bench()
    b.put(1)
    later = tmp_path / "later"
    b.begin(b.config(), b.config(name="other", base=later))
    assert b.available == [1]
    assert b.manager.why_not_ready() == [f"other: no version in {later}"]
    b.put(1, base=later)
    b.until(lambda: not b.manager.why_not_ready())


def test_loads_that_never_end_hold_up_no_other_model(bench, tmp_path):
    """However many of one model hang: another one is served, and follows what is published."""
    b = bench()
    b.gate.clear()
    for number in range(1, 5):
        b.put(number, base=tmp_path / "bad")
    load = b._load
    b.manager._load_version = lambda config, number, path: (
        load(config, number, path) if config.name == "bad" else LoadedModel(config.name, number, Graph())
    )
    b.put(1)
    begun = [b.config(Policy("all"), name="bad", base=tmp_path / "bad"), b.config()]
    thread = threading.Thread(target=b.begin, args=begun)
    thread.start()
    b.settles(1)
    b.put(2)
    b.settles(2)
    b.gate.set()
    thread.join(120)
    assert not thread.is_alive()


def test_a_request_that_never_ends_holds_up_no_load(bench):
    """On two versions at once, more than one thread would wait for."""
    b = bench()
    b.put(1)
    b.begin()
    with b.manager.use("m"):
        b.put(2)
        b.settles(2)
        with b.manager.use("m"):
            for number in (3, 4, 5):
                b.put(number)
                b.settles(number)
    b.until(lambda: all(graph.closed for number, graph in b.graphs.items() if number != 5))


# --- requests and changes ---------------------------------------------------------------------------------------------


def test_a_version_in_use_is_not_unloaded_under_it(bench):
    """Its request ends first; the next one goes to the new version."""
    b = bench()
    b.put(1)
    b.begin()
    with b.manager.use("m") as model:
        b.put(2)
        b.settles(2)
        time.sleep(0.1)
        assert model.version == 1
        assert not b.graphs[1].closed
        assert b.answers() == 2
        assert b.manager.status("m", 1)[0].state == "UNLOADING"
    b.until(lambda: b.graphs[1].closed)


def test_no_request_fails_while_versions_come_and_go(bench):
    """Threads ask without a pause while thirty versions replace each other."""
    b = bench()
    b.put(1)
    b.begin()
    stop, failures, counts = threading.Event(), [], Counter()

    def ask():
        while not stop.is_set():
            try:
                with b.manager.use("m") as model:
                    if b.graphs[model.version].closed:
                        failures.append(f"{model.version} is closed")
                    counts[model.version] += 1
            except Refusal as refusal:
                failures.append(refusal.message)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(2, 32):
        b.put(number)
        b.settles(number)
        b.until(lambda number=number: counts[number] or failures)
        shutil.rmtree(b.base / str(number - 1))
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert set(range(2, 32)) <= set(counts)
    b.until(lambda: all(graph.closed for number, graph in b.graphs.items() if number != 31))


def test_a_model_that_leaves_while_it_loads_is_unloaded(bench):
    """Nothing is left of it."""
    b = bench()
    b.gate.clear()
    b.put(1)
    thread = threading.Thread(target=b.begin)
    thread.start()
    b.until(lambda: (1, "LOADING") in b.changes)
    manager = b.manager
    with manager._lock:
        model = manager._models["m"]
    b.manager._drop("m")
    b.gate.set()
    thread.join()
    b.until(lambda: model.versions[1].state == "END")
    assert b.graphs[1].closed
    with pytest.raises(Refusal, match=r"Latest\(m\)"):
        b.answers()


def test_a_reload_drops_and_takes_models(bench, tmp_path):
    """Omitted models are unloaded, new ones are waited for, platforms cannot change."""
    b = bench()
    b.put(1)
    b.put(5, base=tmp_path / "n")
    b.begin()
    b.manager.reload([b.config(name="n", base=tmp_path / "n")])
    assert b.manager.names == ["n"]
    assert b.graphs[1].closed
    with b.manager.use("n") as model:
        assert model.version == 5
    with pytest.raises(Refusal, match="Illegal to change a model's platform"):
        b.manager.reload([ModelConfig("n", tmp_path / "n", platform="other")])


def test_ready_stays_while_something_new_loads(bench):
    """Else every server on the directory would leave its load balancer at the same time."""
    b = bench()
    b.put(1)
    b.begin()
    assert b.manager.why_not_ready() == []
    b.gate.clear()
    b.put(2)
    b.until(lambda: (2, "LOADING") in b.changes)
    assert b.manager.why_not_ready() == []
    b.gate.set()
    b.settles(2)


def test_not_ready_before_the_first_is_there(bench):
    """With the reason."""
    b = bench()
    b.gate.clear()
    b.put(1)
    thread = threading.Thread(target=b.begin)
    thread.start()
    b.until(lambda: (1, "LOADING") in b.changes)
    assert b.manager.why_not_ready() == ["m: version 1 is LOADING"]
    b.gate.set()
    thread.join()
    assert b.manager.why_not_ready() == []


def test_close_ends_a_start_that_waits(bench):
    """And what loads meanwhile is unloaded."""
    b = bench()
    b.gate.clear()
    b.put(1)
    starting = threading.Thread(target=b.begin)
    starting.start()
    b.until(lambda: (1, "LOADING") in b.changes)
    closing = threading.Thread(target=b.manager.close)
    closing.start()
    starting.join(120)
    assert not starting.is_alive()
    b.gate.set()
    closing.join(120)
    assert not closing.is_alive()
    assert b.graphs[1].closed


def test_names_and_versions_that_are_not_there(bench):
    """In TF Serving's words."""
    b = bench()
    b.put(1)
    b.begin()
    for name, version, words in (
        ("", None, "ModelSpec has no name specified."),
        ("x", None, "Servable not found for request: Latest(x)"),
        ("m", 2, "Servable not found for request: Specific(m, 2)"),
    ):
        with pytest.raises(Refusal) as caught, b.manager.use(name, version):
            pass
        assert caught.value.message == words
    with pytest.raises(Refusal, match="Could not find version 2 of model m"):
        b.manager.status("m", 2)


# --- the original's hazards -------------------------------------------------------------------------------------------


def test_strict_empty_base_path_unloads_everything(bench):
    """So that a vanished directory's content takes production down."""
    b = bench(strict=True)
    b.put(1)
    b.begin()
    shutil.rmtree(b.base / "1")
    b.settles()
    b.until(lambda: b.graphs[1].closed)


def test_strict_missing_base_path_stops_all_models(bench, tmp_path):
    """No model gets any update until it is back."""
    b = bench(strict=True)
    b.put(1)
    other = tmp_path / "other"
    b.put(1, base=other)
    b.begin(b.config(), b.config(name="other", base=other))
    shutil.rmtree(other)
    b.put(2)
    time.sleep(0.2)
    assert b.available == [1]
    b.put(1, base=other)
    b.settles(2)


def test_strict_files_and_odd_spellings_are_versions(bench):
    """A plain file with a number for a name is tried, and fails."""
    b = bench(strict=True, load_retries=0)
    b.put(1)
    b.begin()
    (b.base / "5").write_text("")
    b.until(lambda: (5, "END") in b.changes)
    assert b.available == [1]
    (b.base / "5").unlink()
    b.put("007")
    b.settles(7)


def test_strict_failed_version_is_never_tried_again(bench):
    """Though it is whole by now; only after it was gone for a poll."""
    b = bench(strict=True, load_retries=0)
    b.put(1)
    b.begin()
    b.put(2, whole=False)
    b.until(lambda: (2, "END") in b.changes)
    b.put(2)
    time.sleep(0.2)
    assert b.available == [1]
    shutil.rmtree(b.base / "2")
    b.until(lambda: b.manager.status("m", 2)[0].code == "OK")
    b.put(2)
    b.settles(2)


def test_strict_retries_hold_up_everything(bench):
    """While a bad version is tried again, a good one is not even looked at."""
    b = bench(strict=True, load_retries=4, retry_interval_s=0.1)
    load = b._load

    def loads(config, number, path):
        if number == 2 and not b.loads[2]:
            b.put(3)  # before the first attempt has failed
        return load(config, number, path)

    b.manager._load_version = loads
    b.put(1)
    b.begin()
    b.put(2, whole=False)
    b.settles(3)
    assert b.order == [1, 2, 2, 2, 2, 2, 3]


def test_strict_start_on_a_broken_newest_version_fails(bench):
    """Though a good one lies beside it: a crash loop."""
    b = bench(strict=True, load_retries=1, retry_interval_s=0.01)
    b.put(1)
    b.put(2, whole=False)
    with pytest.raises(Refusal, match="did not become available"):
        b.begin()


def test_strict_start_on_an_empty_base_path_waits(bench):
    """Until a version comes."""
    b = bench(strict=True)
    starting = threading.Thread(target=b.begin)
    starting.start()
    starting.join(0.3)
    assert starting.is_alive()
    b.put(1)
    starting.join(120)
    assert not starting.is_alive()
    assert b.available == [1]
