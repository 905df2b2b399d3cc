"""What is known of migrations, for people and programs: texts, JSON, JUnit, and the exit status that goes with it.

Everything here takes `Migration` objects (`spiceproxy.protocol.migration.model`) and gives texts; nothing opens a file.
"""
