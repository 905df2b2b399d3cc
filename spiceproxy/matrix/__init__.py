"""The matrix: every scenario of the catalog played with real servers and clients, or simulated ones, and judged.

`setups.py` says what a scenario takes, `guests.py` keeps guests that have booted, `cell.py` plays one scenario and returns
what was seen (`results.Observation`), `classify.py` says what that amounts to, `campaign.py` plays many at once and keeps
results as they come. From results: `page.py`, `junit.py`, `measured.py` (the catalog's column) and `findings.py`.
"""
