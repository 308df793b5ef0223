"""Floor 1: bytes, messages and sockets.  Knows zmq, JSON and HMAC; knows nothing of the Python language."""
