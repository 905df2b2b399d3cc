"""Tests of spiceproxy.report: migrations in, texts out."""
