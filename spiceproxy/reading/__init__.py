"""Show what was said on the connections of a capture: as lines, as field trees, as JSON, as sums."""
