"""Captures made whole again: files that end in the middle of a block, or are damaged somewhere inside.

`repair` is the door; `pcapng` and `pcap` know their formats, and `window` gives them the bytes. What is whole is copied as
it is; where something is broken, the copy goes on at the next place that is surely a beginning.
"""
