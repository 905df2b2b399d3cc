"""A man-in-the-middle for SPICE that follows a session through live migrations."""
