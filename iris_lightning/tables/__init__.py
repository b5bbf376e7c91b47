"""CSV and Parquet files: read for training, streamed for predictions. What is done with the rows is not said here."""
