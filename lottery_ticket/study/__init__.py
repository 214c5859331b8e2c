"""Studies: `lt sweep`."""
