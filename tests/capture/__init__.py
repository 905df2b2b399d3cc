"""Captures, made byte by byte."""
