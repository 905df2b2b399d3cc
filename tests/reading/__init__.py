"""Tests of spiceproxy.reading: messages in, lines out."""
