"""01: a heartbeat.

A connection file says where a kernel listens.  Of its five sockets this kernel binds one, hb, and sends back what
comes: that is how frontends learn that a kernel is alive.

Run it: ``python examples/01_heartbeat.py -f connection.json`` (the file is made if there is none), and in another
terminal ``jupyter console --existing connection.json``, which asks for a kernel_info_reply for a minute and gives
up, with a traceback that ends in "Kernel didn't respond to kernel_info_request".

Still wrong: that it is alive is all that anybody can hear from it.
"""

import json
import os
import sys

import zmq

from minikernel import write_connection_file

path = sys.argv[-1] if len(sys.argv) > 1 else "connection.json"
if not os.path.exists(path):
    write_connection_file(path)
with open(path) as file:
    info = json.load(file)
hb = zmq.Context().socket(zmq.ROUTER)  # which puts a frame in front that says who asks, and takes it off the answer
hb.bind(f"tcp://{info['ip']}:{info['hb_port']}")
while True:
    hb.send_multipart(hb.recv_multipart())
