"""A module in a process that ends once the process that began it is gone.

`python -m aimspax_core.ends_with_parent PARENT MODULE ARGUMENTS…`, with the number of the process
that begins it. It looks for that one before it imports the module, which may take minutes on a
busy machine; whoever was killed meanwhile leaves nothing that works on.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading
import time

LOOK_S = 2.0
"""How often it looks whether the process that began it is still there (s)."""


def end_with(parent: int) -> None:
    """End this process when the one that began it is gone."""
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    os._exit(1)


def main(parent: int, module: str, *arguments: str) -> None:
    """Run a module as a program, as long as the process that began this one is there."""
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
