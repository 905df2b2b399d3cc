"""What the bytes of SPICE mean: one module of construct schemas per channel. No I/O, no clock, no state."""
