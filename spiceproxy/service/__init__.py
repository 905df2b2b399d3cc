"""Running for long and unattended: what a service manager and a monitoring system want. Used by `spiceproxy run`."""
