"""Tests of spiceproxy.recording."""
