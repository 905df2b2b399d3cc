"""`spiceproxy demo`: a proxy between simulated peers, a whole migration, and an account of what happened."""
