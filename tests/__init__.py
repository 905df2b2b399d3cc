"""The tests: the tree of the packages again."""
