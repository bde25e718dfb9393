"""Wyoming, the protocol of Home Assistant's voice assistants, over TCP and Unix sockets."""
