"""Tickets: subnetworks as folders, as modules, and as files for other programs."""
