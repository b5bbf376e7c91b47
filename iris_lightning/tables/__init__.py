"""CSV and Parquet: columns and their roles, reading, streaming predictions."""
