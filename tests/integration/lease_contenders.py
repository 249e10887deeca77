"""Processes that ask for one lease at the same moment: `LOCATION COUNT HELD_S STALE_S`.

Prints a JSON list: for each process, whether it held the lease, or the message that refused it.
"""

import json
import multiprocessing
import sys
import time
from typing import Any

from laclip_ray import lease, storage
from laclip_ray.errors import UserError

_fork = multiprocessing.get_context("fork")  # the processes import nothing, so they ask at the same moment


def contend(location: str, held_s: float, stale_s: float, start: Any, outcomes: Any) -> None:
    """Ask for the lease once all processes are ready, and hold it for some time."""
    setattr(lease, "STALE_S", stale_s)  # noqa: B010 - for this process alone
    storage.exists(location)  # connects
    start.wait()
    try:
        with lease.hold(location, "train.output", "train"):
            time.sleep(held_s)
            outcomes.put(True)
    except UserError as error:
        outcomes.put(str(error))


def main() -> None:
    """Start the processes, and print what became of them."""
    location, count, held_s, stale_s = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
    start, outcomes = _fork.Barrier(count), _fork.Queue()
    import s3fs  # noqa: F401 - before the processes fork

    processes = [_fork.Process(target=contend, args=(location, held_s, stale_s, start, outcomes)) for _ in range(count)]
    for process in processes:
        process.start()
    print(json.dumps([outcomes.get(timeout=60) for _ in processes]))
    for process in processes:
        process.join()


if __name__ == "__main__":
    main()
