"""Reproductions: `lt reproduce`."""
