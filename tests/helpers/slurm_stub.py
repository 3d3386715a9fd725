"""A job for tests, run as ``python slurm_stub.py FOLDER JOB``: what it does is in its fold.

Fold 0 and 1 end well, 2 fails, 3 waits until the file "go" is in the folder, and the others wait for ever in their
first attempt.
"""

import os
import sys
import time
from pathlib import Path

from nnunet_rw.benchmark.jobs import Workspace, working_on


def main():
    folder, name = Path(sys.argv[1]), sys.argv[2]
    fold = int(name[-1])
    with working_on(Workspace(folder), name):
        result = folder / f"result{fold}"
        with open(folder / f"attempts{fold}", "a") as file:
            file.write(os.environ.get("SLURM_CPUS_PER_TASK", "-") + "\n")
        print("at work", flush=True)
        if fold == 2:
            raise RuntimeError("no such fold")
        while fold == 3 and not (folder / "go").exists():
            time.sleep(0.2)
        if fold > 3 and len((folder / f"attempts{fold}").read_text().splitlines()) == 1:
            time.sleep(600)
        result.write_text("done")


if __name__ == "__main__":
    main()
