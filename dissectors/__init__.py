"""What the bytes of SPICE mean: one module of construct schemas per channel. No I/O, no clock, no state.

`registry` answers for data messages: (channel type, side, id) -> name, fields, bytes. `link` and `sasl` have what comes
before them, `headers` what stands in front of each, `main_channel.rewrite_destination` what a proxy changes.

A new channel is a module with two tables of `MessageSpec`, made of `fields`, and a row in `registry`. The functions raise
`DissectionError` and nothing else, whatever the bytes or the fields are; a schema used by itself raises construct's
errors, unless it goes through `fields.read` and `fields.write`. What `registry.dissect` takes apart, `registry.build`
puts together to the same bytes; link blocks are built in the usual layout only.
"""
