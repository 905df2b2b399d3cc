"""One connection, from accept() to close(): the link phase, messages both ways, and what it may use of the processor."""
