"""Migrations followed while they go on: what connections tell, as facts for one tracker, and what it says, as events."""
