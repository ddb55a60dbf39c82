"""Reading the layouts in which data sets come."""
