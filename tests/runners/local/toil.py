"""Jobs for the worker template: what a copy of it is asked to do in tests."""

import os
import signal
import sys
import time
from pathlib import Path


def add(left, right):
    return {"sum": left + right, "pid": os.getpid(), "parent": os.getppid()}


def repeat(text, times):
    return {"text": text * times}


def speak(word):
    print(word)
    print(f"{word} on standard error", file=sys.stderr)
    os.system(f"echo {word} by a child")  # as C++ code writes: past Python
    return {}


def eat(megabytes, seconds):
    block = b"x" * (megabytes << 20)
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return {"bytes": len(block)}


def leave(status):
    os._exit(status)


def raise_error():
    raise ValueError("no")


def kill_itself():
    os.kill(os.getpid(), signal.SIGKILL)


def linger(file):
    Path(file).write_text(str(os.getpid()))
    time.sleep(600)


def modules(names):
    return {name: name in sys.modules for name in names}


def threads():
    return {"threads": len(os.listdir("/proc/self/task"))}


def keep(file):
    """Writes down, when it is asked to leave, that it was."""

    def leave(*_):
        Path(file).write_text("kept")
        os._exit(0)

    signal.signal(signal.SIGTERM, leave)
    Path(file).write_text("began")
    time.sleep(600)
