"""A publisher in a process of its own, for tests that kill it or run several: `publisher.py BASE COUNT PAYLOAD...`.

Says `ready` when it is about to start, publishes each payload in turn until COUNT publishes are done, and prints the
number of each version.
"""

import sys

from serving.payload import digest
from serving.store import VersionStore


def main(base: str, count: int, payloads: list[str]) -> None:
    """Publish `count` times."""
    digests = [digest(path) for path in payloads]
    store = VersionStore(base, lock_timeout_s=600)
    print("ready", flush=True)
    for turn in range(count):
        which = turn % len(payloads)
        print(store.publish(payloads[which], digests[which], {"turn": str(turn)}).version, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
