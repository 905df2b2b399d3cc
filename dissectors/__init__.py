"""What the bytes of SPICE mean: one module of construct schemas per channel. No I/O, no clock, no state.

`registry` answers for data messages: (channel type, side, id) -> name, fields, bytes. `link` and `sasl` have what comes
before them, `headers` what stands in front of each, `main_channel.rewrite_destination` what a proxy changes.

A new channel is a module with two tables of `MessageSpec`, made of `fields`, and a row in `registry`. Parsing and
building raise `DissectionError` and nothing else, whatever the bytes or the fields are; what parses, builds back to the
same bytes.
"""
