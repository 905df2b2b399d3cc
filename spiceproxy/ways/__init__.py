"""Ways in: how a connection comes to the proxy, and how the proxy goes on to the server (docs/ways.md)."""
