"""Data sets from elsewhere: read as streams, judged row by row, kept as versions that never change."""
