"""Control of a running proxy."""
