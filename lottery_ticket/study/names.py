"""The names of what is measured of a trial."""

SMALLEST, MATCHING = "smallest_winning_pct", "smallest_matching_pct"
COST, MARGIN, DENSE = "cost", "winning_margin", "dense_accuracy"
VALIDATION = "validation_accuracy"
LEFT = "weights_remaining_pct"
