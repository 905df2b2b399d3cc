"""Live migrations as the wire shows them: facts in, one `Migration` for each attempt out. Sans-I/O, no clock."""
