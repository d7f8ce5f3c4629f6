"""Archive: old days of events as Parquet files, out of the database."""
