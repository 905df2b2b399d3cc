"""The lab: real QEMUs, a real SPICE client under Xvfb, and live migrations between them, through the proxy or without.

`run.run_lab` plays one whole session and returns a typed `result.LabResult`; the modules under it are usable alone:
`qmp` (QEMU's monitor), `qemu` (command line and life of one server), `guest` (the picture), `display` (Xvfb, clients,
screenshots), `forwarder` (a port that refuses until told otherwise).
"""
