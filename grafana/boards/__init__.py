"""One dashboard a file, by whom it is for."""
