"""Tests of spiceproxy.capture: files and stream events in, messages out."""
