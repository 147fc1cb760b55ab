"""Requests that arrive together run together, and each gets what is its own."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from serving.server.batching import Batcher, BatchingParameters
from serving.server.status import Refusal


class Model:
    """Doubles; waits where a gate is closed; refuses negative values; remembers its batches."""

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()
        self.running = threading.Event()
        self.batches = []

    def __call__(self, inputs):
        self.running.set()
        self.gate.wait(120)
        x = inputs["x"]
        self.batches.append(len(x))
        if (x < 0).any():
            raise Refusal("INVALID_ARGUMENT", "negative")
        return [x * 2]


@pytest.fixture
def batcher():
    made = []

    def make(model, **parameters):
        made.append(Batcher(model, BatchingParameters(**parameters), lambda size, waited: None))
        return made[-1]

    yield make
    for one in made:
        one.close()


def x(*values):
    return {"x": np.array(values, np.float32)}


def together(model, batcher, requests):
    """Sends requests so that all but the first wait for each other; their outputs, or what they were refused with."""

    def ask(inputs):
        try:
            return batcher.submit(inputs)[0].tolist()
        except Refusal as refusal:
            return refusal.message

    with ThreadPoolExecutor(len(requests) + 1) as pool:
        model.gate.clear()
        model.running.clear()
        first = pool.submit(ask, x(0))
        assert model.running.wait(120)
        rest = []
        for count, inputs in enumerate(requests, 1):
            rest.append(pool.submit(ask, inputs))
            while len(batcher._queue) < count and not rest[-1].done():
                pass
        model.gate.set()
        first.result()
        return [one.result() for one in rest]


def test_one_batch_for_all_that_wait(batcher):
    """Rows in the order of the requests."""
    model = Model()
    outputs = together(model, batcher(model, num_batch_threads=1), [x(1), x(2, 3), x(4)])
    assert outputs == [[2], [4, 6], [8]]
    assert model.batches == [1, 4]


def test_no_batch_is_larger_than_allowed(batcher):
    """A request is never taken apart."""
    model = Model()
    outputs = together(model, batcher(model, num_batch_threads=1, max_batch_size=3), [x(1, 2), x(3, 4), x(5)])
    assert outputs == [[2, 4], [6, 8], [10]]
    assert model.batches == [1, 2, 3]


def test_a_bad_request_fails_alone(batcher):
    """Its neighbours run again, each alone."""
    model = Model()
    outputs = together(model, batcher(model, num_batch_threads=1), [x(1), x(-1), x(2)])
    assert outputs == [[2], "negative", [4]]


def test_other_shapes_and_types_wait_for_their_own_batch(batcher):
    """Only what can be put together is."""
    model = Model()
    requests = [x(1), {"x": np.ones((1, 2), np.float32)}, {"x": np.ones(1, np.float64)}, x(2)]
    outputs = together(model, batcher(model, num_batch_threads=1), requests)
    assert outputs == [[2], [[2, 2]], [2], [4]]


def test_padding_to_allowed_sizes(batcher):
    """The model sees allowed sizes alone, the client nothing of it."""
    model = Model()
    one = batcher(model, max_batch_size=8, allowed_batch_sizes=(4, 8))
    assert one.submit(x(1, 2, 3))[0].tolist() == [2, 4, 6]
    assert one.submit(x(1, 2, 3, 4, 5))[0].tolist() == [2, 4, 6, 8, 10]
    assert model.batches == [4, 8]


def test_a_full_queue_refuses(batcher):
    """With a code that a client may retry."""
    model = Model()
    one = batcher(model, num_batch_threads=1, max_batch_size=2, max_enqueued_batches=1)
    outputs = together(model, one, [x(1, 2), x(3)])
    assert outputs == [[2, 4], "The batch scheduling queue to which this task was submitted is full"]


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (x(1, 2, 3), "Task size 3 is larger than maximum input batch size 2"),
        (x(), "must have at least one row"),
        ({"x": np.float32(1)}, "must have equal 0th-dimension size"),
        ({"x": np.ones(1), "y": np.ones(2)}, "must have equal 0th-dimension size"),
    ],
)
def test_what_is_no_batch(batcher, inputs, words):
    """Is refused before it waits."""
    with pytest.raises(Refusal, match=words) as caught:
        batcher(Model(), max_batch_size=2).submit({name: np.asarray(values) for name, values in inputs.items()})
    assert caught.value.code == "INVALID_ARGUMENT"


def test_outputs_that_are_no_rows(batcher):
    """Cannot be handed back to whom they belong."""
    with pytest.raises(Refusal, match="0th dimension does not equal"):
        batcher(lambda inputs: [np.float32(1)]).submit(x(1))


def test_the_first_waits_for_others_no_longer_than_said(batcher):
    """With a timeout requests are gathered; a full batch goes at once."""
    model = Model()
    one = batcher(model, num_batch_threads=1, max_batch_size=3, batch_timeout_micros=20_000_000)
    with ThreadPoolExecutor(3) as pool:
        assert [done[0].tolist() for done in pool.map(one.submit, [x(1), x(2), x(3)])] == [[2], [4], [6]]
    assert model.batches == [3]


def test_one_alone_runs_in_its_own_thread(batcher):
    """And leaves its place free."""
    threads = []
    one = batcher(lambda inputs: threads.append(threading.current_thread()) or [inputs["x"]], num_batch_threads=1)
    for _ in range(3):
        one.submit(x(1))
    assert set(threads) == {threading.current_thread()}
    assert one._running == 0


@pytest.mark.parametrize("places", [1, 2, 3])
def test_everyone_is_answered(batcher, places):
    """Thirty-two threads, now and then with a shape of their own: nobody waits for ever, each gets its own."""
    one = batcher(Model(), num_batch_threads=places, max_batch_size=5, max_enqueued_batches=100)

    def ask(number):
        own = x(number) if number % 7 else {"x": np.full((1, 2), number, np.float32)}
        return one.submit(own)[0].reshape(-1)[0] == 2 * number

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(ask, range(3000)))
    assert (one._running, one._waiting, len(one._queue)) == (0, 0, 0)


def test_close_refuses_what_comes_later(batcher):
    """After what runs has ended."""
    one = batcher(Model())
    one.submit(x(1))
    one.close()
    with pytest.raises(Refusal, match="being unloaded"):
        one.submit(x(1))


@pytest.mark.parametrize(
    "parameters",
    [
        {"max_batch_size": 0},
        {"num_batch_threads": 0},
        {"max_enqueued_batches": 0},
        {"max_batch_size": 8, "allowed_batch_sizes": (4, 2, 8)},
        {"max_batch_size": 8, "allowed_batch_sizes": (2, 4)},
    ],
)
def test_parameters_that_cannot_be(parameters):
    """As TF Serving refuses them."""
    with pytest.raises(ValueError, match="must be"):
        BatchingParameters(**parameters)
