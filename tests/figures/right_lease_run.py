"""An import that starts when it gets a line, and works for a given time: `DIRECTORY WORK_S MACHINE`."""

import sys
import time
from pathlib import Path
from typing import Any

from laclip_ray import cli, lease
from laclip_ray.rewriting.transfer import import_texts


def main() -> None:
    """Import the texts in a directory, as the command line does."""
    directory, work_s, machine = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    import_shards = import_texts._import_shards

    def import_slowly(*arguments: Any) -> None:
        print("working", flush=True)
        time.sleep(work_s)
        import_shards(*arguments)

    setattr(import_texts, "_import_shards", import_slowly)  # noqa: B010 - replaces a function for this process alone
    if machine != "here":
        setattr(lease, "this_machine", lambda: machine)  # noqa: B010 - as above
    print("ready", flush=True)
    sys.stdin.readline()
    files = [str(directory / name) for name in ("config.yaml", "captions.csv", "cleaned.txt")]
    cli.main(["rewrites", "import", *files])


if __name__ == "__main__":
    main()
