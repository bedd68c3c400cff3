"""What accuracy.py measures: problems with known answers, diffincl, and its peers."""
