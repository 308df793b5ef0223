"""Print the README's table of frontends: run the tests of each, here and now, and say how many have passed."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

#: Name, distribution, and which tests are its own.
FRONTENDS = [
    ("jupyter console", "jupyter_console", "test_consoles.py", "not euporie and not qtconsole"),
    ("qtconsole", "qtconsole", "test_consoles.py", "qtconsole"),
    ("euporie", "euporie", "test_consoles.py", "euporie"),
    ("JupyterLab", "jupyterlab", "test_browser.py", "not notebook"),
    ("Notebook", "notebook", "test_browser.py", "notebook"),
    ("jupyter_server", "jupyter_server", "test_servers.py", "not gateway and not voila"),
    ("kernel gateway", "jupyter_kernel_gateway", "test_servers.py", "gateway"),
    ("voila", "voila", "test_servers.py", "voila"),
    ("nbclient, jupyter execute, jupyter run", "nbclient", "test_notebooks.py", "not papermill and not nbconvert"),
    ("nbconvert --execute", "nbconvert", "test_notebooks.py", "nbconvert"),
    ("papermill", "papermill", "test_notebooks.py", "papermill"),
    ("jupyter_kernel_test", "jupyter_kernel_test", "test_frontends.py", ""),
    ("VS Code's command line", "", "test_connect.py", "vs_code"),
]


def row(name: str, distribution: str, result: str) -> str:
    """Return a row of the table."""
    try:
        which = version(distribution) if distribution else ""
    except PackageNotFoundError:
        which = "not installed here"
    return f"| {name} | {which} | {result} |"


def main() -> None:
    """Run all, and print."""
    print("| frontend | version | tests |\n|---|---|---|")
    here = Path(__file__).parent
    for name, distribution, file, keyword in FRONTENDS:
        command = [sys.executable, "-m", "pytest", "-q", str(here / file), "-k", keyword]
        run = subprocess.run(command, capture_output=True, text=True, cwd=here.parent)
        counts = re.findall(r"\d+ (?:passed|failed|skipped|error\w*)", run.stdout.strip().split("\n")[-1])
        print(row(name, distribution, ", ".join(counts) or "none"), flush=True)


if __name__ == "__main__":
    main()
