"""The analyses of `blindspots analyze`, one file each: a Command whose settings are those of the analysis."""
