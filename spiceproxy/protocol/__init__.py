"""What the bytes of SPICE do: sans-I/O state of a connection and of a session. Never imports trio, never reads a clock."""
