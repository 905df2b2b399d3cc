"""TLS on both sides of the proxy: sockets, the certificate authority, and who is believed (docs/tls.md)."""
