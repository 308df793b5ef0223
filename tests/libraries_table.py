"""Print the README's table of libraries, from what they show in a kernel here and now."""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from pathlib import Path

from client import KernelProcess
from test_libraries import IPYTHON, LIBRARIES, row, shown

with tempfile.TemporaryDirectory() as directory:
    kernel = KernelProcess(Path(directory), without=IPYTHON)
    try:
        client = kernel.client()
        print("| | without IPython |\n|---|---|")
        for library in LIBRARIES:
            if find_spec(library.package) is None:
                print(f"| {library.name} | not installed here |")
            else:
                print(row(library, shown(client.execute(library.code, timeout=120))))
    finally:
        kernel.close()
