"""MLflow: what stands where in a run, written while it trains and read afterwards."""
