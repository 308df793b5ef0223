"""A second frontend: open a Qt console on the kernel that runs this cell.

Run it in a minikernel session (paste it into a cell); it needs ``pip install "minikernel[qtconsole]"`` and a
display. What one frontend defines the other has: try ``shared`` in the window.  And it sees what the other runs.
"""

from minikernel import connect_qtconsole

shared = "from the first frontend"
console = connect_qtconsole(argv=["--style=monokai"])  # a subprocess.Popen; the window is no part of the kernel
print("the console is process", console.pid)

# Still missing: its end.  ``exit`` in the window ends the window only, and `console.terminate()` does so from here.
