"""Tests of spiceproxy.protocol: bytes in, items out; no socket, no clock."""
