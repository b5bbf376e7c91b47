"""Tables in CSV and Parquet files: reading them, checking them, streaming predictions."""
