"""The run: plan, pieces, store, resume, statistics, red flags."""
