"""What may be said of records and tickets: verdicts, comparisons, figures."""
