"""Print the README's table of libraries, from what they show in a kernel here and now."""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from pathlib import Path

from client import KernelProcess
from test_libraries import IPYTHON, LIBRARIES, row, shown


def column(without: tuple[str, ...]) -> dict[str, str]:
    """Return what each library shows in a kernel without these packages."""
    with tempfile.TemporaryDirectory() as directory:
        kernel = KernelProcess(Path(directory), without=without)
        try:
            client = kernel.client()
            return {
                library.name: "not installed here" if find_spec(library.package) is None
                else shown(client.execute(library.code, timeout=120))
                for library in LIBRARIES
            }  # fmt: skip
        finally:
            kernel.close()


if __name__ == "__main__":
    bare, full = column(IPYTHON), column(())
    print("| | without IPython | with IPython |\n|---|---|---|")
    for library in LIBRARIES:
        print(row(library, bare[library.name], full[library.name]))
