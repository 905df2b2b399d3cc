"""Captures without their secrets: what was typed, seen, heard, copied and plugged in is taken out; sizes and times stay.

`redact` is the door. It reads a capture twice. The first time every message is decoded, and the bytes that may be known
are put into a store by their place in their TCP stream (`survey`). The second time every packet is written anew, with
what the store has in the place of its payload (`packets`). So nothing gets into the file but what somebody has said may:
bytes that were not decoded, not expected or not there are zeros.

`table` says field by field what is secret; `fields` finds where fields lie; `bodies` and `streams` do it for a message
and for what rides inside messages. All of that is pure.
"""
