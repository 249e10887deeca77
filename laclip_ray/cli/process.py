"""The process of a command, which ends as soon as the command has.

Python frees the objects of torch, Ray and other libraries one by one before a process ends: seconds of silence after
the last line. This process leaves its memory to the operating system.
"""

import atexit
import contextlib
import logging
import os
import sys
from collections.abc import Sequence

from laclip_ray.cli import main
from laclip_ray.errors import ExitCode


def run_process(arguments: Sequence[str] | None = None) -> None:
    """Run the command line in a process that ends with it. Threads and exit handlers end as always.

    Args:
        arguments: as in `laclip_ray.cli.main`.
    """
    end = _End()
    atexit.register(end.leave)  # registered first, so it is the last handler
    try:
        main(arguments)
        end.code = ExitCode.COMPLETE
    except SystemExit as stopped:
        end.code = stopped.code if isinstance(stopped.code, int) else ExitCode.FAILED
        raise


class _End:
    code: int = ExitCode.FAILED

    def leave(self) -> None:
        """End the process."""
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # closed, by the reader or by this process
                stream.flush()
        os._exit(self.code)
