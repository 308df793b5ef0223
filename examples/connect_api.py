"""The connect API from inside: run this file in a minikernel session (``jupyter run``, or paste it into a cell).

It asks the kernel where it is, and prints how another frontend attaches to it.
"""

import os

from minikernel import get_connection_file, get_connection_info

path = get_connection_file()
info = get_connection_info()
assert path is not None, "this is no kernel: paste the code into a cell of a minikernel session"

print(f"kernel {os.getpid()} was started from {os.path.basename(path)}")
for channel in ("shell", "iopub", "stdin", "control", "hb"):
    print(f"  {channel:8} {info['transport']}://{info['ip']}:{info[channel + '_port']}")
print(f"  messages are signed with {info['signature_scheme']} and a key of {len(info['key'])} characters")
print(f"attach with: jupyter console --existing {os.path.basename(path)}")

# What is still missing here: the other side.  launch.py starts a kernel and talks to it.
