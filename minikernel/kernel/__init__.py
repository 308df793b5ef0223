"""Floor 2: requests, handlers and replies.  Speaks the protocol's words; knows neither zmq nor ``exec``."""
